//! Words that the field does not use, or uses for something else, and the names that stand in their place.

use super::code::code_of;

/// A word that may not come back.
struct Word {
    word: &'static str,
    name: &'static str,
    /// Where it may not: beginnings of paths.
    within: &'static [&'static str],
    /// Where it has another meaning, which is the right one.
    except: &'static [&'static str],
}

/// What is ours, and public or on the path of the data.
const ALL: &[&str] = &["src/", "cli/", "plugins/abi/", "include/"];
/// The engine alone: the load generator has a pace, turns and scripts of its own, the validator lends memory, keys are called
/// `Left`.
const ENGINE: &[&str] = &["src/"];

const fn word(word: &'static str, name: &'static str, within: &'static [&'static str]) -> Word {
    Word { word, name, within, except: &[] }
}

/// Types, functions, variables: they may not stand in code, comments aside.
const IN_CODE: &[Word] = &[
    word("Rehearsal", "DryRun", ALL),
    word("Rehearsed", "DryRunOutput", ALL),
    word("Post", "ListenerState", ALL),
    word("post_for", "ListenerState", ALL),
    word("leave_post", "ListenerState", ALL),
    word("Seat", "PeerPermit", ALL),
    word("Seats", "PeerLimiter", ALL),
    word("Party", "PeerKey", ALL),
    word("Pace", "MinRateMonitor", ENGINE),
    word("Away", "Offloaded", ALL),
    word("goes_away", "needs_offload", ALL),
    word("send_away", "offload", ALL),
    word("come_back", "resume_offloaded", ALL),
    word("Returned", "OffloadResult", ENGINE),
    word("Crew", "ThreadPool", ALL),
    word("Left", "RetiredSession", ENGINE),
    word("retire", "drop_in_background", ALL),
    word("Lent", "RecvBuf", ALL),
    word("lent", "recv_buf", ENGINE),
    word("send_lent", "send_from_recv_buf", ALL),
    word("answer_lent", "reply_from_recv_buf", ALL),
    word("put_back", "recycle_peer", ALL),
    word("let_go", "wait_closed", ALL),
    word("settle", "the connection's Step", ALL),
    word("settle_answer", "the connection's Step", ALL),
    word("say", "emit", ENGINE),
    word("tell", "emit", ALL),
    word("say_fault", "log_transform_error", ALL),
    word("say_why", "emit_caused", ALL),
    word("Way", "ChainContext", ALL),
    word("Ran", "ChainOutcome", ALL),
    word("Piece", "DelayedRange", ENGINE),
    word("Tails", "StageInput", ALL),
    word("Digest", "Batch", ENGINE),
    word("Terms", "ConnLimits", ALL),
    word("Turn", "DatagramSession", ENGINE),
    word("Held", "DelayQueue or DelayedDatagrams", ALL),
    word("Envelope", "ReplyTo", ALL),
    word("Destination", "LocalAddr", ALL),
    word("Shape", "MsghdrTemplate", ALL),
    word("lacked_by", "note_enobufs", ALL),
    word("starved", "waiting", ALL),
    word("at_home", "waiting", ALL),
    word("aside", "on_helper_thread", ALL),
    word("quietly", "skip_success", ALL),
    word("Script", "Simulator", ENGINE),
    word("Ready", "Epoll", ALL),
    // Of memory and of terminals elsewhere.
    word("Layout", "RecvmsgOut", &["src/driver/"]),
    // Of a protocol elsewhere.
    word("Header", "SendMsg", &["src/driver/"]),
    word("Port", "DatagramSocket", ALL),
    // Of a line, in frames.
    Word { word: "feed", name: "refill", within: ALL, except: &["src/frame/"] },
    word("Kept", "Check", ALL),
    word("Breach", "Violation", ALL),
    word("Desk", "Arena, or TicketIssuer", ALL),
    word("Scene", "Fixture", ALL),
    word("house", "layout", ALL),
    word("rooms", "modules", ALL),
    word("take_over", "migrate_to_ring", ENGINE),
    word("leave_to_ready", "migrate_to_epoll", ALL),
    word("send_listeners_away", "migrate_listeners_to_epoll", ALL),
    word("few", "epoll_streams_max", ENGINE),
    word("Copies", "InheritedFds", ALL),
    word("forked", "after_fork", ALL),
    // A token has a version; generations are a chain's. The drivers know no chains.
    word("generation", "version", &["src/slab.rs", "src/driver/"]),
    // What has not been sent is the send queue.
    Word {
        word: "backlog",
        name: "send queue",
        within: ENGINE,
        except: &["src/options.rs", "src/options/", "src/net/"],
    },
];

/// Options, constants, headings: they may not stand in comments, texts and literals either.
const ANYWHERE: &[Word] = &[
    word("amplify", "max_amplification", ALL),
    word("DOOR", "unsafe boundary", ALL),
    word("DOORS", "unsafe boundary", ALL),
    word("Rehearsal", "DryRun", ALL),
    word("Crew", "ThreadPool", ALL),
    word("RESAY_CLOSED_PEER_ENDED", "RESAY_CLOSED_PEER_CLOSED", ALL),
    word("RESAY_CLOSED_CHAIN_CHANGED", "RESAY_CLOSED_CHAIN_REPLACED", ALL),
];

/// Files whose names were such words.
const FILES: &[(&str, &str)] = &[
    ("src/rehearsal.rs", "src/dry_run.rs"),
    ("src/engine/forked.rs", "src/engine/after_fork.rs"),
    ("src/worker/ending.rs", "commands.rs, swap.rs and drain.rs"),
    ("src/worker/accepting.rs", "src/worker/listeners.rs"),
    ("src/engine/accepting.rs", "src/engine/closing.rs"),
    ("src/driver/uring/accepting.rs", "src/driver/uring/accept.rs"),
    ("src/worker/offloading.rs", "src/worker/offload.rs"),
    ("src/worker/spinning.rs", "src/worker/spin.rs"),
    ("src/driver/ready.rs", "src/driver/epoll.rs"),
    ("src/driver/script.rs", "src/driver/simulator/"),
];

/// What the crate exports has the full name; inside a module of its own a short one may do.
const EXPORTED: [(&str, &str); 5] = [
    ("Kind", "EventKind"),
    ("Level", "LogLevel"),
    ("Cause", "EventCause"),
    ("Record", "EventRecord"),
    ("Origin", "TransformOrigin"),
];

/// Each word of the tables in a file, with its place.
pub(crate) fn findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some((_, name)) = FILES.iter().find(|(file, _)| *file == path) {
        found.push(format!("{path}:1: this file is called {name}"));
    }
    let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
    for (words, lines) in [(IN_CODE, code.as_str()), (ANYWHERE, text)] {
        for word in words.iter().filter(|word| word.concerns(path)) {
            for (number, _) in
                lines.lines().enumerate().filter(|(_, line)| super::super::has_word(line, word.word))
            {
                found.push(format!("{path}:{}: {}: it is called {}", number + 1, word.word, word.name));
            }
        }
    }
    if path == "src/lib.rs" {
        for (word, name) in EXPORTED {
            if code.lines().any(|line| super::super::has_word(line, word)) {
                found.push(format!("{path}:1: {word}: it is called {name}"));
            }
        }
    }
    found
}

impl Word {
    fn concerns(&self, path: &str) -> bool {
        let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        is_in(self.within) && !is_in(self.except)
    }
}

#[test]
fn words_are_found_where_they_mean_that() {
    for (path, text, count) in [
        ("src/a.rs", "struct Crew; // Lent", 2),
        ("src/a.rs", "// a Turn, \"amplified\"", 0),
        ("src/a.rs", "\"amplify\"", 1),
        ("cli/load/src/a.rs", "struct Script { turn: Turn, pace: Pace }", 0),
        ("src/slab.rs", "fn generation(self)", 1),
        ("src/chain/mod.rs", "fn generation(self)", 0),
        ("src/net/socket.rs", "listen(backlog)", 0),
        ("src/connection/mod.rs", "self.backlog", 1),
        ("include/resay.h", "amplify", 1),
        ("src/lib.rs", "pub use event::Kind;", 1),
        ("src/rehearsal.rs", "", 1),
        ("docs/x.md", "amplify", 0),
    ] {
        assert_eq!(findings(path, text).len(), count, "{path}: {text}");
    }
}
