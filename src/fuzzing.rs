//! What fuzzers call: each target takes any bytes, and panics where a promise is broken. `fuzz/` has a program for each of
//! them; `cargo test` calls them with the files of `fuzz/corpus/`, and with many others that are made of those.

#![allow(clippy::expect_used, clippy::panic, reason = "a target panics where something is wrong")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::dry_run::DryRun;
use crate::frame::{Frame, Framer, TooLong};
use crate::net::address::{Address, Listen};
use crate::net::guard::{DatagramGuard, DatagramRules, OwnAddresses};
use crate::options::{KEYS, Options};
use crate::peer::SocketKind;
use crate::proxy::{HEADER_BYTES_MAX, ProxyVersions, parse};
use crate::stats::DropReason;
use crate::timer::Moment;
use crate::transform::spec::ChainSpec;

/// A target and its name, which is that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("frames", frames),
    ("address", address),
    ("chain", chain),
    ("options", options),
    ("guard", guard),
    ("proxy", proxy),
    ("worker", worker),
    ("calls", calls),
];

const FRAMINGS: [&str; 13] = [
    "raw",
    "lines",
    "delim:0d0a",
    "delim:00",
    "delim:616161",
    "len8",
    "len16be",
    "len16le",
    "len32be",
    "len32le",
    "varint",
    "fixed:1",
    "fixed:7",
];

/// A framing, its longest message, where to cut, and a stream: however it is cut, the same messages are found, none is longer
/// than allowed, and an answer like its message is framed like it.
pub fn frames(data: &[u8]) {
    let [which, max, cut, input @ ..] = data else { return };
    let text = FRAMINGS[usize::from(*which) % FRAMINGS.len()];
    let max = usize::from(*max) + 1;
    let frame = Frame::parse(text).expect("it is one of ours");
    let framer = Framer::new(&frame, max);
    // Raw streams have none; and without a byte nobody looks whether the framing itself is too long.
    if !framer.has_messages() || input.is_empty() {
        return;
    }
    let whole = messages(&framer, &[input]);
    let (front, back) = input.split_at(usize::from(*cut).min(input.len()));
    assert_eq!(whole, messages(&framer, &[front, back]), "{text} {max} cut at {cut}");
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(whole, messages(&framer, &bytes), "{text} {max} byte by byte");
    let mut rest = input;
    while let Ok(Some(found)) = framer.find(rest, 0) {
        assert!(
            found.body.len() <= max && found.body.end <= found.len && found.len <= rest.len(),
            "{text} {max}"
        );
        assert!(found.len > 0, "{text}: a frame of nothing would be found for ever");
        let (mut answer, mark) = (b"before".to_vec(), b"before".len());
        assert_eq!(framer.open(&mut answer), mark);
        answer.extend_from_slice(&rest[found.body.clone()]);
        framer.close(&mut answer, mark, rest, &found).expect("as long as its request");
        let again =
            framer.find(&answer[mark..], 0).expect("no longer than its request").expect("it is whole");
        assert_eq!(&answer[mark..][again.body], &rest[found.body.clone()], "{text}");
        // A length may be written longer than it has to be; the answer's never is.
        assert!(text == "varint" || answer[mark..] == rest[..found.len], "{text}");
        rest = &rest[found.len..];
    }
}

/// All messages of a stream that comes in pieces, up to the first that is too long.
fn messages(framer: &Framer, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let (mut window, mut found, mut scanned) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        window.extend_from_slice(piece);
        loop {
            match framer.find(&window, scanned) {
                Ok(Some(frame)) => {
                    found.push(window[frame.body.clone()].to_vec());
                    window.drain(..frame.len);
                    scanned = 0;
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        scanned = window.len();
    }
    found.extend(framer.find_last(&window).map(|frame| window[frame.body].to_vec()));
    (found, None)
}

/// A URL: an error points into it, and what is understood has a canonical form that means the same.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Listen::parse(text, &Options::default()) {
        Ok(listen) => {
            let canonical = listen.address.to_string();
            assert_eq!(canonical.parse::<Address>().as_ref(), Ok(&listen.address), "{text:?} {canonical:?}");
        }
        Err(error) => assert!(text.is_char_boundary(error.at), "{text:?} {error:?}"),
    }
}

/// A chain and, in further lines, messages: an error points into it, its canonical form means the same, and what it answers is
/// no panic.
pub fn chain(data: &[u8]) {
    let (text, input) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &b""[..]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let spec = match ChainSpec::parse(text) {
        Ok(spec) => spec,
        Err(error) => return assert!(text.is_char_boundary(error.at), "{text:?} {error:?}"),
    };
    let canonical = spec.to_string();
    let again = ChainSpec::parse(&canonical).map(|spec| spec.to_string());
    assert_eq!(again.as_ref(), Ok(&canonical), "{text:?}");
    // Files are not looked for: what they would do is theirs.
    if text.contains(['/', '.']) || spec.stages.len() > 4 {
        return;
    }
    for (kind, is_framed) in [(SocketKind::Udp, false), (SocketKind::Tcp, true), (SocketKind::Tcp, false)] {
        let Ok(mut dry_run) = DryRun::new(text, &[], kind, is_framed) else { continue };
        let mut bytes = 0;
        for message in input.split(|byte| *byte == b'\n').take(8) {
            match dry_run.process(message) {
                Ok(crate::DryRunOutput::Answer(answer)) => bytes += answer.len(),
                _ => break,
            }
            if bytes > 1 << 20 {
                break;
            }
        }
    }
}

/// Lines `key=value`: an error points into its line, and what is taken reads the same again.
pub fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut options = Options::default();
    for line in text.lines() {
        if let Err(error) = options.set_pair(line) {
            assert!(line.is_char_boundary(error.at), "{line:?} {error:?}");
        }
    }
    let mut again = Options::default();
    for key in KEYS {
        // Some have no text for "as it was".
        let Some(value) = options.get(key.name) else { continue };
        if let Err(error) = again.set(key.name, &value) {
            panic!("{}={value}: {error:?}", key.name);
        }
        assert_eq!(again.get(key.name).as_ref(), Some(&value), "{}", key.name);
    }
}

const RULES: [&[&str]; 10] = [
    &[],
    &["guard=public"],
    &["guard=off", "from_ports=1024-65535"],
    &["rate=1/1h", "rate_burst=3"],
    &["rate_total=2/1s"],
    &["deny=192.0.2.0/25,2001:db8::/33"],
    &["allow=192.0.2.0/24", "deny=192.0.2.7"],
    &["loop_hops=1:1", "loop_mark=off"],
    &["loop_hops=2:off", "loop_mark=200"],
    &["guard=public", "rate=5/1s", "rate_networks=16/32", "deny=::/0"],
];
const PORTS: [u16; 8] = [1, 7, 53, 1023, 1024, 8888, 20_000, 60_000];
const SOURCES: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.7",
    "192.0.2.130",
    "198.51.100.1",
    "203.0.113.9",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "::1",
];
/// The engine's own socket.
const OWN: &str = "192.0.2.1:8888";

/// Rules, and datagrams that come: what a rule says by itself holds for whatever is answered, and the short way to see that
/// nothing can be wrong with a datagram never says so of one that is refused.
pub fn guard(data: &[u8]) {
    let [which, events @ ..] = data else { return };
    let mut options = Options::default();
    for pair in RULES[usize::from(*which) % RULES.len()] {
        options.set_pair(pair).expect("it is one of ours");
    }
    let is_loopback = which & 0x80 != 0;
    let Some(rules) = DatagramRules::new(&options, is_loopback) else { return };
    let own = Arc::new(OwnAddresses::default());
    let own_address: SocketAddr = OWN.parse().expect("an address");
    own.enter(own_address);
    let mut guard = DatagramGuard::new(&rules, &own, Some(own_address));
    let ports = options.guard_ports(is_loopback);
    let (mut now, mut answered) = (Duration::ZERO, 0);
    for event in events.chunks_exact(3) {
        let [what, from, message] = event else { continue };
        let source: IpAddr = SOURCES[usize::from(from & 7)].parse().expect("an address");
        let source = SocketAddr::new(source, PORTS[usize::from(from >> 3 & 7)]);
        let hops = [0, 64, 160, 216][usize::from(what & 3)];
        now += [Duration::ZERO, Duration::from_millis(3), Duration::from_secs(1), Duration::from_secs(90)]
            [usize::from(what >> 2 & 3)];
        let at = Moment::from_micros(1 + now.as_micros() as u64);
        let message = [*message; 5];
        let is_idle = guard.is_idle(source.port(), hops);
        let refused = guard.refuse(&source, &message, hops, at);
        assert!(!is_idle || refused.is_none(), "{refused:?}");
        if options.guard != crate::options::GuardLevel::Off {
            assert_eq!(refused == Some(DropReason::OwnAddress), source == own_address);
        }
        if refused.is_some() {
            continue;
        }
        assert!(ports.as_ref().is_none_or(|ports| ports.has(source.port())), "{source}");
        answered += 1;
        if which % 10 == 4 {
            assert!(answered <= 2 * (now.as_secs() + 2), "{answered} after {now:?}");
        }
        let answer = if what & 0x10 == 0 { message } else { message.map(|byte| byte.wrapping_add(1)) };
        guard.answered(&source, &answer, at);
    }
}

/// Which versions are accepted, and what is behind a proxy: however it is cut, the header is the same or is missed for the same
/// reason; nothing behind it counts; and what it says is as it is written.
pub fn proxy(data: &[u8]) {
    let [which, input @ ..] = data else { return };
    let versions = [ProxyVersions::V1, ProxyVersions::V2, ProxyVersions::Any][usize::from(*which) % 3];
    let whole = parse(input, versions);
    let decides = |len: &usize| parse(&input[..*len], versions) != Ok(None);
    let Some(first) = (0..=input.len().min(HEADER_BYTES_MAX)).find(decides) else {
        assert_eq!(whole, Ok(None));
        return assert!(input.len() < HEADER_BYTES_MAX, "it is waited for more");
    };
    assert_eq!(parse(&input[..first], versions), whole, "cut at {first}");
    let Ok(Some(header)) = whole else { return };
    assert_eq!(header.len, first);
    let facts = header.facts();
    let facts = facts.strip_suffix("\0\0").expect("a NUL behind each, and one more");
    for fact in facts.split('\0') {
        let (key, value) = fact.split_once('=').expect("key=value");
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        assert!(!key.is_empty() && key.chars().all(is_name), "{fact:?}");
        // A path is shown as it is.
        assert!(key == "destination" || value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{fact:?}");
    }
}

/// Decisions of a simulated kernel, network and peers, against the worker: see its simulation.
pub fn worker(data: &[u8]) {
    crate::worker::simulation::decide(data);
}

/// Calls of the C interface.
pub fn calls(data: &[u8]) {
    crate::ffi::fuzzing::calls(data);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::driver::simulator::Random;

    /// Inputs that are made of each file of the corpus.
    const CHANGES: usize = 20;

    #[test]
    fn every_file_of_the_corpus_is_fine() {
        for (name, run) in TARGETS {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut files: Vec<_> =
                fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!files.is_empty(), "{} is empty", directory.display());
            files.sort();
            for file in files {
                let data = fs::read(&file).unwrap();
                let shown = format!("{name} {}", file.file_name().unwrap().display());
                let mut random = Random::new(data.len() as u64);
                eprintln!("{shown}");
                run(&data);
                for _ in 0..CHANGES {
                    let mut data = data.clone();
                    if !data.is_empty() {
                        let place = random.below(data.len());
                        match random.below(3) {
                            0 => data[place] = random.next() as u8,
                            1 => data.truncate(place),
                            _ => data.insert(place, random.next() as u8),
                        }
                    }
                    eprintln!("{shown} {data:02x?}");
                    run(&data);
                }
            }
        }
    }
}
