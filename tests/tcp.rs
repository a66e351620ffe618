//! TCP: what the kernel and the peers do to a server, provoked with real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod tcp {
    mod accepting;
    mod bytes;
    mod ending;
}

use std::fs::File;
use std::os::fd::AsRawFd;

use common::*;
use resay::{Engine, EventKind, LogLevel};

const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// A server in a process of its own. It says its URL, answers `start`, `limit N` (descriptors: at most N
/// connections), `figures` and `shortages`, and ends with its input.
fn server(url: &str, chain: &str, start_at_once: bool) {
    let log = Log::default();
    server_of(&log, log.builder().listen(url).unwrap().chain(chain).unwrap().build().unwrap(), start_at_once);
}

fn server_of(log: &Log, engine: Engine, start_at_once: bool) {
    if start_at_once {
        engine.start().unwrap();
    }
    // Limits are about numbers, which are only those of connections when no smaller one is free.
    let numbers =
        descriptors().into_iter().map(|text| text.split(' ').next().unwrap().parse::<i32>().unwrap());
    let last = numbers.max().unwrap();
    let openings = std::iter::repeat_with(|| File::open("/dev/null").unwrap());
    let _fillers: Vec<_> = openings.take_while(|file| file.as_raw_fd() < last).collect();
    let without_connections = last as u64 + 1;
    say(engine.urls().first().map_or("nowhere yet", String::as_str));
    while let Some(line) = told() {
        let mut words = line.split(' ');
        match (words.next().unwrap(), words.next()) {
            ("start", None) => engine.start().unwrap(),
            ("limit", Some(more)) => {
                set_descriptor_limit(without_connections + more.parse::<u64>().unwrap());
            }
            ("listen", Some(url)) => {
                let id = engine.listen(url).unwrap();
                say(&engine.listener(id).unwrap().url);
                continue;
            }
            ("figures", None) => {
                let stats = engine.stats();
                say(&format!("{} {}", stats.accepted, stats.accept_errors));
                continue;
            }
            ("shortages", None) => {
                let lines = log.lines(EventKind::AcceptFailed);
                say(&lines.iter().filter(|(level, _)| *level == LogLevel::Warn).count().to_string());
                continue;
            }
            other => panic!("{other:?}"),
        }
        say("done");
    }
    finish(engine);
}

fn order(helper: &mut Helper, line: &str) -> String {
    helper.tell(line);
    helper.hear()
}

fn figures(helper: &mut Helper) -> (u64, u64) {
    let line = order(helper, "figures");
    let (accepted, errors) = line.split_once(' ').unwrap();
    (accepted.parse().unwrap(), errors.parse().unwrap())
}
