//! Isolation: a test in a process of its own.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::process::{ISOLATED, Process, again, role};
use super::transport::Transport;
use super::waiting::eventually;

/// How long one isolated test may take.
const TEST_LIMIT: Duration = Duration::from_secs(900);

/// Runs the body of a test in a process of its own, with the checks that end every test.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    isolated_as(&test_name::<F>(), body);
}

/// The same with something that the test needs. Where that cannot be had, there is nothing to run.
pub(crate) fn isolated_with<T, F: FnOnce(&T)>(make: fn() -> Option<T>, body: F) {
    isolated_as(&test_name::<F>(), || {
        if let Some(made) = make() {
            body(&made);
        }
    });
}

/// The same, once for each of these transports.
pub(crate) fn isolated_on_each<T, F: Fn(&T, Transport)>(
    make: fn() -> Option<T>,
    transports: fn() -> Vec<Transport>,
    body: F,
) {
    isolated_as(&test_name::<F>(), || {
        if let Some(made) = make() {
            transports().into_iter().for_each(|transport| body(&made, transport));
        }
    });
}

/// The same, with all of them at once: for tests that wait most of their time.
pub(crate) fn isolated_on_all_at_once<T: Sync, F: Fn(&T, Transport) + Sync>(
    make: fn() -> Option<T>,
    transports: fn() -> Vec<Transport>,
    body: F,
) {
    isolated_as(&test_name::<F>(), || {
        let Some(made) = make() else { return };
        let (made, body) = (&made, &body);
        thread::scope(|scope| {
            for transport in transports() {
                scope.spawn(move || body(made, transport));
            }
        });
    });
}

fn isolated_as(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ISOLATED).is_some_and(|isolated| isolated == name) {
        if role().is_some() {
            return body();
        }
        let before = Resources::of_this_process();
        body();
        eventually("descriptors and threads are back to their number before", || {
            let after = Resources::of_this_process();
            if after == before { Ok(()) } else { Err(format!("before {before:?}, after {after:?}")) }
        });
        return;
    }
    let mut child = Process(
        again(name).env(ISOLATED, name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
    );
    let output = collect(child.0.stdout.take().unwrap());
    let errors = collect(child.0.stderr.take().unwrap());
    let status = child.wait(TEST_LIMIT);
    drop(child);
    let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
    let text = format!("---- {name}: output\n{output}\n---- {name}: errors\n{errors}");
    match status {
        None => panic!("no end within {TEST_LIMIT:?}\n{text}"),
        Some(status) => assert!(status.success(), "{status}\n{text}"),
    }
    assert!(output.contains("1 passed"), "the test was not found under its name\n{text}");
    let expected = output.contains(PANICS_EXPECTED);
    assert!(expected || !errors.contains("panicked at"), "something panicked\n{text}");
    for line in errors.lines().filter(|line| line.starts_with("SKIPPED")) {
        eprintln!("{name}: {line}");
    }
    for line in errors.lines().filter(|line| line.starts_with("FIGURE")) {
        eprintln!("{name}: {line}");
    }
}

const PANICS_EXPECTED: &str = "[a plugin panics in this test]";

/// Says that a panic's text on standard error is a part of the test.
pub(crate) fn expect_panics() {
    println!("{PANICS_EXPECTED}");
}

/// Says loudly that something was not tested.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn test_name<F>() -> String {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a process holds of its system.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    descriptors: Vec<String>,
    threads: usize,
}

impl Resources {
    fn of_this_process() -> Resources {
        Resources { descriptors: descriptors(), threads: fs::read_dir("/proc/self/task").unwrap().count() }
    }
}

/// The open descriptors of this process and what they are, but for the one that reads this.
pub(crate) fn descriptors() -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("{} {}", entry.file_name().to_string_lossy(), target.display()))
        })
        .filter(|text| !text.contains("/proc/"))
        .collect();
    found.sort();
    found
}
