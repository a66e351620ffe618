//! Plugins that break the rules.

use std::fs;
use std::process::Command;

use crate::common::plugin::*;
use crate::common::*;
use crate::{compile, root};
use resay::{CloseReason, DropReason, EventKind, LogLevel, Message, Output, Verdict};

/// Transforms that answer as they should until a message begins with an X.
const BAD: &str = r#"
#include <resay_plugin.h>
#include <string.h>

static resay_status copy(struct resay_io *io) {
  size_t n = io->input_len < io->output_cap ? io->input_len : io->output_cap;
  if (n > 0) memcpy(io->output, io->input, n);
  io->input_used = io->output_len = n;
  return n < io->input_len ? RESAY_MORE_OUT : RESAY_OK;
}
#define BAD_PROCESS(name, ...) \
  static resay_status name##_process(void *instance, void *session, resay_io *io) { \
    (void)instance, (void)session; \
    if (io->input_len == 0 || io->input[0] != 'X') return copy(io); \
    __VA_ARGS__ \
  } \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .process = name##_process };
#define BAD_MAP(name, status) \
  static resay_status name##_map(void *instance, void *session, uint8_t *data, size_t len) { \
    (void)instance, (void)session; \
    return len > 0 && data[0] == 'X' ? (status) : RESAY_OK; \
  } \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .map = name##_map };

BAD_PROCESS(overflow, io->input_used = io->input_len; io->output_len = io->output_cap + 1; return RESAY_OK;)
BAD_PROCESS(enormous, io->input_used = io->input_len; io->output_len = SIZE_MAX; return RESAY_OK;)
BAD_PROCESS(unknown, io->input_used = io->input_len; return 77;)
BAD_PROCESS(negative, return -4711;)
BAD_PROCESS(stuck, return RESAY_MORE_OUT;)
BAD_PROCESS(greedy, io->input_used = io->input_len + 1; return RESAY_OK;)
BAD_PROCESS(lazy, return RESAY_OK;)
BAD_PROCESS(waiting, return RESAY_MORE_IN;)
BAD_PROCESS(wishful, io->output_need = SIZE_MAX; return RESAY_MORE_OUT;)
BAD_PROCESS(endless, memset(io->output, 'y', io->output_cap); io->output_len = io->output_cap; return RESAY_MORE_OUT;)
BAD_PROCESS(refusing, return RESAY_E_DATA;)
BAD_PROCESS(poor, return RESAY_E_NOMEM;)
BAD_MAP(map_unknown, 78)
BAD_MAP(map_more_out, RESAY_MORE_OUT)
BAD_MAP(map_more_in, RESAY_MORE_IN)
BAD_MAP(map_data, RESAY_E_DATA)
BAD_MAP(dropping, RESAY_DROP)
BAD_MAP(closing, RESAY_CLOSE)
BAD_PROCESS(p_dropping, io->input_used = io->input_len; return RESAY_DROP;)
BAD_PROCESS(p_closing, resay_status status = copy(io); return status == RESAY_OK ? RESAY_CLOSE : status;)
BAD_MAP(resetting, RESAY_RESET)
BAD_MAP(panicking, RESAY_E_PANIC)

RESAY_PLUGIN(&overflow, &enormous, &unknown, &negative, &stuck, &greedy, &lazy, &waiting, &wishful, &endless,
             &refusing, &poor, &map_unknown, &map_more_out, &map_more_in, &map_data, &dropping, &closing,
             &p_dropping, &p_closing, &resetting, &panicking);
"#;

/// A transform that breaks the ABI, or cannot do its work: that connection ends and that datagram is dropped, with a
/// reason that names it. Others with the same transform live.
#[test]
fn transforms_that_break_the_rules() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "bad", BAD);
        for (id, why) in [
            ("overflow", "more than output_cap"),
            ("enormous", "more than output_cap"),
            ("unknown", "unknown status 77"),
            ("negative", "unknown status -4711"),
            ("stuck", "without progress"),
            ("greedy", "more than input_len"),
            ("lazy", "input left"),
            ("waiting", "MORE_IN"),
            ("wishful", "over the limit"),
            ("endless", "over the limit"),
            ("refusing", "cannot be transformed"),
            ("poor", "out of memory"),
            ("map_unknown", "unknown status 78"),
            ("map_more_out", "from map"),
            ("map_more_in", "from map"),
            ("map_data", "cannot be transformed"),
        ] {
            let log = Log::default();
            let mut builder = log.builder().chain(&format!("identity | {}#{id}", library.display())).unwrap();
            let transports = Transport::all();
            for transport in &transports {
                builder = builder.listen(&transport.url(directory.path())).unwrap();
            }
            // On a raw stream it is allowed to ask for more; a framed one has whole messages.
            let engine = builder.set("frame", "lines").unwrap().start().unwrap();
            for (transport, url) in transports.iter().zip(engine.urls()) {
                let (good, bad) = (Peer::connect(&url), Peer::connect(&url));
                assert_eq!(good.ask(b"fine\n"), b"fine\n", "{id} {transport:?}");
                assert_eq!(bad.ask(b"fine\n"), b"fine\n", "{id} {transport:?}");
                bad.send(b"X\n");
                if transport.is_connected() {
                    assert_eq!(bad.message(), b"", "{id} {transport:?}: the connection ends");
                } else {
                    assert_eq!(bad.ask(b"next\n"), b"next\n", "{id} {transport:?}: the datagram is dropped");
                }
                assert_eq!(good.ask(b"fine\n"), b"fine\n", "{id} {transport:?}");
            }
            let connected = transports.iter().filter(|transport| transport.is_connected()).count() as u64;
            let all = transports.len() as u64;
            let stats = finish(engine);
            assert_eq!(stats.transform_errors, all, "{id}: {stats:?}");
            assert_eq!(stats.dropped_by(DropReason::TransformFailed), all, "{id}: {stats:?}");
            assert_eq!(stats.closed_by(CloseReason::TransformFailed), connected, "{id}: {stats:?}");
            let said = log.lines(EventKind::TransformFailed);
            assert_eq!(said.len() as u64, all, "{id}: {said:?}");
            for (level, line) in said {
                assert_eq!(level, LogLevel::Warn);
                assert!(line.contains(id) && line.contains(why), "{id}: {line:?} lacks {why:?}");
            }
        }
    });
}

/// What a transform may ask for: no answer, the end after an answer, a reset.
#[test]
fn transforms_that_drop_close_and_reset() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "bad", BAD);
        for transport in Transport::all() {
            let serve = |id: &str| {
                let url = transport.url(directory.path());
                let url = if transport.is_stream() { url + "?frame=lines" } else { url };
                serve(&url, &format!("{}#{id}", library.display()))
            };
            let (engine, url) = serve("dropping");
            let peer = Peer::connect(&url);
            peer.send(b"X nothing\n");
            assert_eq!(peer.ask(b"something\n"), b"something\n", "{transport:?}");
            if transport.is_stream() {
                peer.send(b"one\nX two\nthree\nX\nfour\n");
                assert_eq!(peer.exactly(15), b"one\nthree\nfour\n", "{transport:?}");
            }
            drop(peer);
            let stats = finish(engine);
            let dropped = if transport.is_stream() { 3 } else { 1 };
            assert_eq!(stats.dropped_by(DropReason::ByTransform), dropped, "{transport:?} {stats:?}");

            let (engine, url) = serve("closing");
            let (peer, other) = (Peer::connect(&url), Peer::connect(&url));
            assert_eq!(peer.ask(b"X good-bye\n"), b"X good-bye\n", "{transport:?}: it is answered");
            if transport.is_connected() {
                assert_eq!(peer.message(), b"", "{transport:?}: and then ended");
            }
            assert_eq!(other.ask(b"still there\n"), b"still there\n", "{transport:?}");
            drop((peer, other));
            finish(engine);

            let (engine, url) = serve("resetting");
            let (peer, other) = (Peer::connect(&url), Peer::connect(&url));
            peer.send(b"X\n");
            match transport {
                Transport::Tcp4 | Transport::Tcp6 => {
                    let error = peer.try_recv(10).unwrap_err();
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{transport:?}");
                }
                // These know no reset, so it is an end; with input that was not read, Linux says reset.
                _ if transport.is_connected() => assert!(peer.try_recv(10).unwrap_or_default().is_empty()),
                _ => assert_eq!(peer.ask(b"next"), b"next", "{transport:?}"),
            }
            assert_eq!(other.ask(b"still there\n"), b"still there\n", "{transport:?}");
            drop((peer, other));
            finish(engine);
        }
    });
}

/// A transform asks for the end, and one behind it drops the message: it gets no answer, and the connection ends all
/// the same, behind the answers that were made before. However the two are made, and whether messages are framed.
#[test]
fn a_transform_that_closes_before_one_that_drops() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "bad", BAD);
        let is_hit = |data: &[u8]| data.first() == Some(&b'X');
        let closing = move |data: &Message<'_>, out: &mut Output<'_>| match is_hit(data) {
            true if out.write(data) => Verdict::Close,
            _ => Verdict::Pass,
        };
        let dropping = move |data: &Message<'_>, _: &mut Output<'_>| {
            if is_hit(data) { Verdict::Drop } else { Verdict::Pass }
        };
        let plugin = |id: &str| format!("{}#{id}", library.display());
        let closers = [plugin("closing"), plugin("p_closing"), "f_closing".to_owned()];
        let droppers = [plugin("dropping"), plugin("p_dropping"), "f_dropping".to_owned()];
        for (closer, dropper) in closers.iter().flat_map(|closer| droppers.iter().map(move |d| (closer, d))) {
            for (transport, frame) in
                [(Transport::Tcp4, "lines"), (Transport::Tcp4, "raw"), (Transport::Seqpacket, "raw")]
            {
                let what = format!("{closer} | {dropper}, {transport:?} {frame}");
                let url = transport.url(directory.path());
                let url = if transport.is_stream() { format!("{url}?frame={frame}") } else { url };
                let engine = engine_builder()
                    .register(resay::Transform::from_fn("f_closing", closing).unwrap())
                    .register(resay::Transform::from_fn("f_dropping", dropping).unwrap())
                    .listen(&url)
                    .unwrap()
                    .chain(&format!("{closer} | {dropper}"))
                    .unwrap()
                    .start()
                    .unwrap();
                let peer = Peer::connect(&engine.urls().remove(0));
                if frame == "lines" {
                    peer.send(b"one\ntwo\nX three\nfour\n");
                    assert_eq!(String::from_utf8_lossy(&peer.to_end()), "one\ntwo\n", "{what}");
                } else {
                    assert_eq!(peer.ask(b"one"), b"one", "{what}");
                    peer.send(b"X two");
                    assert_eq!(String::from_utf8_lossy(&peer.to_end()), "", "{what}");
                }
                drop(peer);
                let stats = finish(engine);
                assert_eq!(stats.dropped_by(DropReason::ByTransform), 1, "{what} {stats:?}");
                assert_eq!(stats.closed_by(CloseReason::TransformClosed), 1, "{what} {stats:?}");
            }
        }
    });
}

/// A plugin says that it has panicked: that message fails, and the instance is not called again. The rest of the
/// engine lives, and a fresh instance works.
fn quarantine(chain: &str, trigger: &[u8]) -> Log {
    let log = Log::default();
    let engine = log
        .builder()
        .listen("tcp://127.0.0.1:0")
        .unwrap()
        .listen("udp://127.0.0.1:0")
        .unwrap()
        .listen("tcp://127.0.0.1:0?chain=uppercase")
        .unwrap()
        .chain(chain)
        .unwrap()
        .start()
        .unwrap();
    let [stream, datagrams, other] = engine.urls().try_into().unwrap();
    let (peer, witness) = (Peer::connect(&stream), Peer::connect(&stream));
    assert_eq!(peer.ask(b"fine"), b"fine");
    assert_eq!(witness.ask(b"fine"), b"fine");
    assert_eq!(Peer::connect(&datagrams).ask(b"fine"), b"fine");
    peer.send(trigger);
    assert_eq!(peer.to_end(), b"");
    // Whoever comes now, however innocent, is told the truth by an end.
    witness.send(b"fine");
    assert_eq!(witness.to_end(), b"");
    Peer::connect(&datagrams).send(b"fine");
    eventually_stats(&engine, "dropped", |stats| stats.dropped_by(DropReason::TransformFailed) == 3);
    assert_eq!(Peer::connect(&other).ask(b"other chain"), b"OTHER CHAIN");
    let said: Vec<_> = log.lines(EventKind::TransformFailed).into_iter().map(|(_, line)| line).collect();
    assert!(said[0].contains("panicked"), "{said:?}");
    assert!(said[1..].iter().all(|line| line.contains("not used any more")), "{said:?}");
    // The same chain again is a new instance.
    engine.set_chain(chain).unwrap();
    eventually("the new instance works", || {
        let peer = Peer::connect(&stream);
        peer.send(b"fine");
        match peer.try_recv(4) {
            Ok(answer) if answer == b"fine" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    finish(engine);
    log
}

#[test]
fn a_panic_in_a_c_plugin_is_quarantined() {
    isolated(|| {
        if has_compiler() {
            let directory = directory();
            let library = compile(directory.path(), "bad", BAD);
            quarantine(&format!("{}#panicking", library.display()), b"X");
        }
    });
}

/// A panic in a Rust plugin, with the SDK between it and the engine.
#[test]
fn a_panic_in_a_rust_plugin_is_quarantined() {
    // Nothing of it is on standard error: `isolated` looks.
    isolated(|| {
        let directory = directory();
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let run = |arguments: &[&str]| {
            let output = Command::new(&rustc)
                .current_dir(directory.path())
                .args(["--edition=2024", "--cap-lints=allow", "-Cpanic=unwind"])
                .args(arguments)
                .env("CARGO_PKG_VERSION", "1.0.0")
                .output();
            let Ok(output) = output else { return false };
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        };
        let sdk = root().join("plugins/abi/src/lib.rs");
        if !run(&["--crate-name=resay_plugin", "--crate-type=rlib", text(&sdk)]) {
            return skipped("a plugin in Rust: there is no rustc");
        }
        let code = r#"
            use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};
            struct Fragile;
            impl Transform for Fragile {
                type Session = ();
                fn create(_: &Setup<'_>) -> Result<Self, Error> {
                    Ok(Fragile)
                }
            }
            impl Map for Fragile {
                fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
                    if data.first() == Some(&b'T') {
                        let _ = std::thread::spawn(|| panic!("on its own")).join();
                    }
                    assert_ne!(data.first(), Some(&b'X'), "an X");
                    Status::Ok
                }
            }
            static FRAGILE: Table = Table::map::<Fragile>(c"fragile").build();
            resay_plugin::export!(FRAGILE);
        "#;
        fs::write(directory.path().join("fragile.rs"), code).unwrap();
        let sdk = directory.path().join("libresay_plugin.rlib");
        let with = format!("resay_plugin={}", sdk.display());
        assert!(run(&["--crate-type=cdylib", "--extern", &with, "fragile.rs"]));
        let library = directory.path().join("libfragile.so");
        let log = quarantine(text(&library), b"X");
        let said: Vec<_> = log.lines(EventKind::TransformLog).into_iter().map(|(_, line)| line).collect();
        assert_eq!(said.len(), 1, "once an instance: {said:?}");
        assert!(said[0].contains("fragile: panic at fragile.rs:") && said[0].contains("an X"), "{said:?}");

        // On a thread that the plugin has started, there is no call that could fail.
        let log = Log::default();
        let builder = log.builder().listen("tcp://127.0.0.1:0").unwrap().chain(text(&library)).unwrap();
        let engine = builder.start().unwrap();
        assert_eq!(Peer::connect(&engine.urls()[0]).ask(b"T"), b"T");
        finish(engine);
        let said: Vec<_> = log.lines(EventKind::TransformLog).into_iter().map(|(_, line)| line).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("a thread of the plugin: panic at fragile.rs:")
                && said[0].contains("on its own"),
            "{said:?}"
        );
    });
}
