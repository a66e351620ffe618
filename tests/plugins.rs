//! Plugins: files that are none, plugins that break the rules, and plugins that keep them.
//!
//! The plugins are written in C and compiled against the public header when the tests run. Without a C compiler
//! that is said and left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use common::plugin::*;
use common::*;
use resay::{CloseReason, DropReason, Engine, Error, EventKind, LogLevel, Output, TransformOrigin, Verdict};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles C code to a library in `directory`.
fn compile(directory: &Path, name: &str, code: &str) -> PathBuf {
    compile_with(directory, name, code, &[])
}

/// A plugin whose bytes come back XORed with `mask`.
fn xor(id: &str, mask: u8) -> String {
    format!(
        r#"#include <resay_plugin.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) data[i] ^= {mask};
  return RESAY_OK;
}}
static const resay_transform table = {{
  .struct_size = sizeof table, .caps = RESAY_CAP_BYTEWISE, .id = "{id}", .version = "1", .map = map,
}};
RESAY_PLUGIN(&table)
"#
    )
}

#[track_caller]
fn load_error(chain: &str) -> Error {
    engine_builder().listen("tcp://127.0.0.1:0").unwrap().chain(chain).unwrap().build().map(drop).unwrap_err()
}

#[track_caller]
fn assert_not_loaded(path: &Path, why: &str) {
    let error = load_error(text(path));
    assert!(matches!(error, Error::Plugin { .. }), "{path:?}: {error}");
    let message = error.to_string();
    assert!(message.contains(text(path)) && message.contains(why), "{message}: {why:?} is missing");
}

/// The example in the documentation of the ABI.
#[test]
fn the_example_works_everywhere() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = fs::read_to_string(root().join("examples/c/plugin_rot13.c")).unwrap();
        let library = compile(directory.path(), "rot13", &code);
        for chain in [text(&library).to_owned(), format!("{}#rot13 | uppercase", library.display())] {
            for transport in Transport::all() {
                let (engine, url) = serve(&transport.url(directory.path()), &chain);
                let answer = Peer::connect(&url).ask(b"Hello, world");
                let expected = if chain.contains("upper") { "URYYB, JBEYQ" } else { "Uryyb, jbeyq" };
                assert_eq!(String::from_utf8_lossy(&answer), expected, "{transport:?}");
                finish(engine);
            }
        }
    });
}

/// Files that are no libraries, or only a part of one, are refused with the reason, whatever part is missing.
#[test]
fn files_that_are_no_libraries() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        assert_not_loaded(&at("missing.so"), "No such file");
        fs::write(at("empty.so"), "").unwrap();
        assert_not_loaded(&at("empty.so"), "file too short");
        fs::write(at("text.so"), "this is no library, however long it is".repeat(100)).unwrap();
        assert_not_loaded(&at("text.so"), "invalid ELF header");
        fs::create_dir(at("folder.so")).unwrap();
        assert_not_loaded(&at("folder.so"), "is not a file");

        let good = compile(directory.path(), "good", &xor("good", 0x20));
        let whole = fs::read(&good).unwrap();
        // Some cuts only take the section headers away, which a loader does not need: those may load.
        let (mut refused, cuts) = (0, 24);
        for cut in 1..cuts {
            let part = at(&format!("part{cut}.so"));
            fs::write(&part, &whole[..whole.len() * cut / cuts]).unwrap();
            let result = engine_builder()
                .listen("tcp://127.0.0.1:0")
                .unwrap()
                .chain(text(&part))
                .unwrap()
                .build()
                .map(drop);
            if let Err(error) = result {
                assert!(error.to_string().contains(text(&part)), "{error}");
                refused += 1;
            }
        }
        assert!(refused > cuts / 3, "{refused} of {cuts} parts were refused");
        // What was refused has left nothing behind that would hinder the whole one.
        let (engine, url) = serve("tcp://127.0.0.1:0", text(&good));
        assert_eq!(Peer::connect(&url).ask(b"whole"), b"WHOLE");
        finish(engine);
    });
}

/// A library that everybody may replace is not trusted, nor one behind a link.
#[test]
fn libraries_that_anybody_can_write() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "open", &xor("open", 1));
        let link = directory.path().join("link.so");
        std::os::unix::fs::symlink(&library, &link).unwrap();
        fs::set_permissions(&library, fs::Permissions::from_mode(0o757)).unwrap();
        assert_not_loaded(&library, "writable by everyone");
        assert_not_loaded(&link, "writable by everyone");
        fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
        finish(serve("tcp://127.0.0.1:0", text(&library)).0);
        finish(serve("tcp://127.0.0.1:0", text(&link)).0);
    });
}

/// Libraries that load, but whose tables are not what the ABI asks for.
#[test]
fn libraries_that_are_no_plugins() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let good = xor("good", 1);
        let library = |fields: &str| {
            format!(
                "{}RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t minor) {{\n\
                 static const resay_transform *const list[] = {{&table}};\n\
                 static const resay_library library = {{{fields}}};\n(void)minor, (void)list;\nreturn &library; }}",
                good.replace("RESAY_PLUGIN(&table)", "")
            )
        };
        let with = |from: &str, to: &str| {
            assert!(good.contains(from));
            good.replace(from, to)
        };
        let cases = [
            ("nothing", "int something(void);\nint something(void) { return 1; }".to_owned(), "has no resay_plugin_v1"),
            (
                "next-major",
                good.replace("RESAY_PLUGIN(&table)", "const void *resay_plugin_v2(uint32_t minor);\nconst void *resay_plugin_v2(uint32_t minor) { (void)minor; return &table; }"),
                "another ABI major",
            ),
            (
                "refuses",
                good.replace("RESAY_PLUGIN(&table)", "const resay_library *resay_plugin_v1(uint32_t minor) { (void)minor, (void)table; return NULL; }"),
                "answered NULL",
            ),
            ("tiny", library("8, 0, 0, 1, list, NULL"), "struct_size 8 is too small"),
            ("none", library("sizeof(resay_library), 0, 0, 0, list, NULL"), "no transform"),
            ("countless", library("sizeof(resay_library), 0, 0, 0x7fffffff, list, NULL"), "2147483647 transforms"),
            ("askew-list", library("sizeof(resay_library), 0, 0, 1, (const void *)((const char *)list + 1), NULL"), "multiple of"),
            (
                "askew-table",
                good.replace("RESAY_PLUGIN(&table)", "RESAY_PLUGIN((const resay_transform *)((const char *)&table + 1))"),
                "multiple of",
            ),
            ("optionful", with(".version", ".n_options = 0x7fffffff, .options = (const void *)&table, .version"), "2147483647 options"),
            ("null-list", library("sizeof(resay_library), 0, 0, 1, NULL, NULL"), "no transform"),
            ("twice", good.replace("RESAY_PLUGIN(&table)", "RESAY_PLUGIN(&table, &table)"), "twice"),
            ("idle", with(".map = map,", "") + "\nresay_status (*unused)(void *, void *, uint8_t *, size_t) = map;", "neither map nor process"),
            ("small-table", with(".struct_size = sizeof table", ".struct_size = 12"), "struct_size 12 is too small"),
            ("bad-id", with("\"good\"", "\"No Good\""), "not a name"),
            ("no-id", with(".id = \"good\",", ""), "id is missing"),
            ("needy", with(".version", ".needs = 1u << 30, .version"), "needs what this engine does not know"),
            ("threads", with(".version", ".threading = 9, .version"), "unknown threading"),
            ("align", with(".version", ".session_size = 8, .session_align = 3, .version"), "session_align"),
            ("huge", with(".version", ".session_size = 1u << 31, .version"), "session_size"),
            ("optionless", with(".version", ".n_options = 1, .version"), "options is NULL"),
        ];
        for (name, code, why) in cases {
            assert_not_loaded(&compile(directory.path(), name, &code), why);
        }
    });
}

/// A bare name is never looked up in the working directory or in the dynamic linker's search path, and a path is
/// taken as it is.
#[test]
fn where_names_are_looked_up() {
    isolated(|| {
        if role().is_some() {
            let error = load_error("hidden").to_string();
            assert!(error.contains("unknown transform \"hidden\""), "{error}");
            // The linker would find this one by its file name; here it is a path, and there is none.
            let there = std::env::var("HERE").unwrap();
            let (engine, url) = serve("tcp://127.0.0.1:0", &format!("{there}/libtwin.so"));
            say(&String::from_utf8(Peer::connect(&url).ask(b"twin")).unwrap());
            finish(engine);
            let (engine, url) = serve("tcp://127.0.0.1:0", "./libhidden.so");
            say(&String::from_utf8(Peer::connect(&url).ask(b"hidden")).unwrap());
            finish(engine);
            return;
        }
        if !has_compiler() {
            return;
        }
        let (here, elsewhere) = (directory(), directory());
        compile(elsewhere.path(), "hidden", &xor("hidden", 0x20));
        compile(elsewhere.path(), "twin", &xor("twin", 0x00));
        compile(here.path(), "twin", &xor("twin", 0x20));
        let mut helper = Helper::start_with("finder", |command| {
            command
                .current_dir(elsewhere.path())
                .env("LD_LIBRARY_PATH", elsewhere.path())
                .env("HERE", here.path());
        });
        assert_eq!(helper.hear(), "TWIN");
        assert_eq!(helper.hear(), "HIDDEN");
        helper.finish();

        // Where they are looked up: what the builder says, then the environment's absolute directories.
        let builder = || engine_builder().listen("tcp://127.0.0.1:0").unwrap().chain("hidden").unwrap();
        builder().plugin_dir(elsewhere.path()).build().unwrap();
        assert!(builder().plugin_dir(here.path()).build().is_err());
        let (found, errors) = resay::transforms(&[elsewhere.path().to_owned()]);
        assert!(errors.is_empty(), "{errors:?}");
        let hidden = found.iter().find(|transform| transform.id == "hidden").unwrap();
        assert_eq!(hidden.origin, TransformOrigin::File(elsewhere.path().join("libhidden.so")));
        assert!(
            found
                .iter()
                .any(|transform| transform.id == "uppercase" && transform.origin == TransformOrigin::Bundled)
        );
    });
}

/// A library with several transforms: each is named behind a #, and the path alone means the first.
#[test]
fn several_transforms_in_one_library() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = xor("first", 0x20).replace(
            "RESAY_PLUGIN(&table)",
            "static resay_status same(void *i, void *s, uint8_t *data, size_t len) {\n\
             (void)i, (void)s, (void)data, (void)len;\nreturn RESAY_OK; }\n\
             static const resay_transform other = { .struct_size = sizeof other, .id = \"second\", .map = same };\n\
             RESAY_PLUGIN(&table, &other)",
        );
        let library = compile(directory.path(), "both", &code);
        let error = load_error(&format!("{}#third", library.display()));
        assert!(error.to_string().contains("no transform \"third\""), "{error}");
        let chain = format!("{0} | {0}#first | {0}#second | {0}#first", library.display());
        let (engine, url) = serve("tcp://127.0.0.1:0", &chain);
        // Turned by the path alone, and once more each time the first is named.
        assert_eq!(Peer::connect(&url).ask(b"three"), b"THREE");
        finish(engine);
    });
}

/// A file that has changed is another plugin: the next chain that names it gets the new one.
#[test]
fn a_changed_file_is_loaded_anew() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "changing", &xor("changing", 0x00));
        let (engine, url) = serve("tcp://127.0.0.1:0", text(&library));
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"version"), b"version");
        let build = directory.path().join("new");
        fs::create_dir(&build).unwrap();
        fs::rename(compile(&build, "changing", &xor("changing", 0x20)), &library).unwrap();
        engine.set_chain(text(&library)).unwrap();
        peer.ask(b"in between");
        assert_eq!(peer.ask(b"version"), b"VERSION");
        drop(peer);
        finish(engine);
    });
}

/// Transforms that answer as they should until a message begins with an X.
const BAD: &str = r#"
#include <resay_plugin.h>
#include <string.h>

static resay_status copy(struct resay_io *io) {
  size_t n = io->in_len < io->out_cap ? io->in_len : io->out_cap;
  if (n > 0) memcpy(io->out, io->in, n);
  io->in_used = io->out_len = n;
  return n < io->in_len ? RESAY_MORE_OUT : RESAY_OK;
}
#define BAD_PROCESS(name, ...) \
  static resay_status name##_process(void *instance, void *session, resay_io *io) { \
    (void)instance, (void)session; \
    if (io->in_len == 0 || io->in[0] != 'X') return copy(io); \
    __VA_ARGS__ \
  } \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .process = name##_process };
#define BAD_MAP(name, status) \
  static resay_status name##_map(void *instance, void *session, uint8_t *data, size_t len) { \
    (void)instance, (void)session; \
    return len > 0 && data[0] == 'X' ? (status) : RESAY_OK; \
  } \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .map = name##_map };

BAD_PROCESS(overflow, io->in_used = io->in_len; io->out_len = io->out_cap + 1; return RESAY_OK;)
BAD_PROCESS(enormous, io->in_used = io->in_len; io->out_len = SIZE_MAX; return RESAY_OK;)
BAD_PROCESS(unknown, io->in_used = io->in_len; return 77;)
BAD_PROCESS(negative, return -4711;)
BAD_PROCESS(stuck, return RESAY_MORE_OUT;)
BAD_PROCESS(greedy, io->in_used = io->in_len + 1; return RESAY_OK;)
BAD_PROCESS(lazy, return RESAY_OK;)
BAD_PROCESS(waiting, return RESAY_MORE_IN;)
BAD_PROCESS(wishful, io->out_need = SIZE_MAX; return RESAY_MORE_OUT;)
BAD_PROCESS(endless, memset(io->out, 'y', io->out_cap); io->out_len = io->out_cap; return RESAY_MORE_OUT;)
BAD_PROCESS(refusing, return RESAY_E_DATA;)
BAD_PROCESS(poor, return RESAY_E_NOMEM;)
BAD_MAP(map_unknown, 78)
BAD_MAP(map_more_out, RESAY_MORE_OUT)
BAD_MAP(map_more_in, RESAY_MORE_IN)
BAD_MAP(map_data, RESAY_E_DATA)
BAD_MAP(dropping, RESAY_DROP)
BAD_MAP(closing, RESAY_CLOSE)
BAD_PROCESS(p_dropping, io->in_used = io->in_len; return RESAY_DROP;)
BAD_PROCESS(p_closing, resay_status status = copy(io); return status == RESAY_OK ? RESAY_CLOSE : status;)
BAD_MAP(resetting, RESAY_RESET)
BAD_MAP(panicking, RESAY_E_PANIC)

RESAY_PLUGIN(&overflow, &enormous, &unknown, &negative, &stuck, &greedy, &lazy, &waiting, &wishful, &endless,
             &refusing, &poor, &map_unknown, &map_more_out, &map_more_in, &map_data, &dropping, &closing,
             &p_dropping, &p_closing, &resetting, &panicking)
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
            ("overflow", "more than out_cap"),
            ("enormous", "more than out_cap"),
            ("unknown", "unknown status 77"),
            ("negative", "unknown status -4711"),
            ("stuck", "without progress"),
            ("greedy", "more than in_len"),
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
        let closing = move |data: &[u8], _: u32, out: &mut Output<'_>| match is_hit(data) {
            true if out.write(data) => Verdict::Close,
            _ => Verdict::Pass,
        };
        let dropping = move |data: &[u8], _: u32, _: &mut Output<'_>| {
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
fn quarantine(chain: &str, trigger: &[u8]) {
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
    isolated(|| {
        expect_panics();
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
        quarantine(text(&directory.path().join("libfragile.so")), b"X");
    });
}

/// Numbers the messages of a conversation, and counts conversations and instances.
const COUNTING: &str = r#"
#include <resay_plugin.h>
#include <stdlib.h>
#include <string.h>

struct own { const resay_host *host; uint32_t opened, closed; };

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  (void)transform, (void)options, (void)n_options, (void)err;
  struct own *own = calloc(1, sizeof *own);
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->opened = host->counter(host->ctx, "opened");
  own->closed = host->counter(host->ctx, "closed");
  host->counter_add(host->ctx, host->counter(host->ctx, "created"), 1);
  *instance = own;
  return RESAY_OK;
}
static void destroy(void *instance) { free(instance); }
static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  struct own *own = instance;
  (void)err;
  if (*(uint64_t *)session != 0 || !peer->local) return RESAY_E_DATA;
  own->host->counter_add(own->host->ctx, own->opened, 1);
  return RESAY_OK;
}
static void session_close(void *instance, void *session) {
  struct own *own = instance;
  (void)session;
  own->host->counter_add(own->host->ctx, own->closed, 1);
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)instance;
  uint64_t number = ++*(uint64_t *)session;
  if (len > 0) data[0] = (uint8_t)('0' + number % 10);
  return RESAY_OK;
}
static const resay_transform counting = {
  .struct_size = sizeof counting, .needs = RESAY_NEED_MESSAGES, .threading = RESAY_PER_WORKER, .id = "counting",
  .session_size = sizeof(uint64_t), .session_align = _Alignof(uint64_t), .create = create, .destroy = destroy,
  .session_open = session_open, .session_close = session_close, .map = map,
};
RESAY_PLUGIN(&counting)
"#;

fn counter(engine: &Engine, name: &str) -> u64 {
    let counters = engine.transform_counters();
    counters.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{counters:?}")).1
}

/// A connection is a conversation from its first message to its last; a datagram is one of its own. Each that was
/// opened is closed, and an instance that wants to be alone is made once a worker.
#[test]
fn conversations() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "counting", COUNTING);
        let transports = Transport::all();
        let mut builder = engine_builder().chain(text(&library)).unwrap().threads(3).unwrap();
        for transport in &transports {
            builder = builder.listen(&transport.url(directory.path())).unwrap();
        }
        let engine = builder.set("frame", "lines").unwrap().start().unwrap();
        assert_eq!(counter(&engine, "counting.created"), 3);
        for (transport, url) in transports.iter().zip(engine.urls()) {
            let (one, two) = (Peer::connect(&url), Peer::connect(&url));
            for round in 1..=3 {
                let number = if transport.is_connected() { round } else { 1 };
                for peer in [&one, &two] {
                    assert_eq!(peer.ask(b"?\n"), format!("{number}\n").as_bytes(), "{transport:?}");
                }
            }
        }
        // While a conversation lasts, its transform is not taken from it; the next one has the new chain.
        let url = &engine.urls()[0];
        let veteran = Peer::connect(url);
        assert_eq!(veteran.ask(b"?\n"), b"1\n");
        engine.set_chain("uppercase").unwrap();
        assert_eq!(veteran.ask(b"?x\n"), b"2x\n");
        eventually("the new chain is there", || {
            let answer = Peer::connect(url).ask(b"x\n");
            if answer == b"X\n" { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        assert_eq!(veteran.ask(b"?x\n"), b"3x\n");
        drop(veteran);
        engine.stop();
        engine.join(PATIENCE).unwrap();
        balanced(&engine);
        eventually("every conversation is closed", || {
            let (opened, closed) = (counter(&engine, "counting.opened"), counter(&engine, "counting.closed"));
            if opened > 20 && opened == closed { Ok(()) } else { Err(format!("{closed} of {opened}")) }
        });
        finish(engine);
    });
}

/// A transform that needs whole messages is refused on a raw stream, before anything is bound, and when a chain is
/// swapped; the old chain goes on.
#[test]
fn whole_messages_are_needed() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "counting", COUNTING);
        for transport in Transport::streams() {
            let url = transport.url(directory.path());
            let result = engine_builder().listen(&url).unwrap().chain(text(&library)).unwrap().build();
            let error = result.map(drop).unwrap_err().to_string();
            assert!(error.contains("counting") && error.contains("frame=lines"), "{transport:?}: {error}");
            let (engine, url) = serve(&url, "uppercase");
            assert!(engine.set_chain(text(&library)).is_err(), "{transport:?}");
            assert_eq!(Peer::connect(&url).ask(b"unchanged"), b"UNCHANGED", "{transport:?}");
            assert_eq!(engine.listeners()[0].chain, "uppercase", "{transport:?}");
            finish(engine);
        }
    });
}

/// A chain that cannot be made changes nothing: an unknown name, an unknown option, a wrong value.
#[test]
fn a_wrong_chain_changes_nothing() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0", "uppercase");
        let peer = Peer::connect(&url);
        for (chain, why) in [
            ("nothing-like-that", "unknown transform \"nothing-like-that\"; there are "),
            ("upercase", "unknown transform \"upercase\", did you mean \"uppercase\"?"),
            ("prefix:txt=a", "unknown option \"txt\", did you mean \"text\"?"),
            ("uppercase:loud=1", "unknown option"),
            ("uppercase:unicode=maybe", "unicode"),
            ("uppercase | nothing-like-that", "unknown transform"),
            ("uppercase |", ""),
        ] {
            let error = engine.set_chain(chain).unwrap_err().to_string();
            assert!(error.contains(why), "{chain}: {error}");
            let error = engine_builder()
                .chain(chain)
                .and_then(|builder| builder.listen("tcp://127.0.0.1:0")?.build().map(drop));
            assert!(error.unwrap_err().to_string().contains(why), "{chain}");
            assert_eq!(peer.ask(b"as before"), b"AS BEFORE", "{chain}");
        }
        // The chain of one listener is its own affair.
        let own = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
        let url = engine.listener(own).unwrap().url;
        engine.set_chain("uppercase:unicode=1").unwrap();
        assert_eq!(Peer::connect(&url).ask(b"mine"), b"mine");
        engine.set_chain_of(own, "uppercase").unwrap();
        eventually("its chain is changed", || {
            let answer = Peer::connect(&url).ask(b"mine");
            if answer == b"MINE" { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        drop(peer);
        finish(engine);
    });
}

/// One instance for several workers, called from all of them at once.
#[test]
fn one_instance_for_four_workers() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        for threading in ["RESAY_SHARED", "RESAY_SERIAL", "RESAY_PER_WORKER"] {
            let code =
                xor("threaded", 0x20).replace(".version", &format!(".threading = {threading}, .version"));
            let library = compile(directory.path(), &threading.to_lowercase(), &code);
            let engine = engine_builder()
                .listen("tcp://127.0.0.1:0")
                .unwrap()
                .chain(text(&library))
                .unwrap()
                .threads(4)
                .unwrap()
                .start()
                .unwrap();
            let url = engine.urls().remove(0);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let peer = Peer::connect(&url);
                        (0..100).for_each(|_| assert_eq!(peer.ask(b"together"), b"TOGETHER"));
                    });
                }
            });
            finish(engine);
        }
    });
}
