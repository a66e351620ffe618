//! Signals that come early, and those that were ignored before the command began.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Server, finish};

/// The command by way of a shell that does something first.
fn shell(first: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--block-signal=TERM", "--block-signal=INT", "sh", "-c"]);
    command.arg(format!(r#"{first}; exec "$0" "$@""#)).arg(env!("CARGO_BIN_EXE_resay")).args(arguments);
    command
}

#[test]
fn a_signal_that_came_before_the_handlers_ends_it_properly() {
    for name in ["TERM", "INT"] {
        // It is pending when the command begins, as if it had come at once.
        let output = finish(shell(&format!("kill -{name} $$"), &["serve", "tcp://127.0.0.1:0"]), b"");
        assert_eq!(output.code, Some(0), "{name} {}", output.stderr);
        assert!(output.stderr.contains(&format!("SIG{name}: draining")), "{}", output.stderr);
        assert!(output.text().starts_with("listening "), "{}", output.text());
    }
}

#[test]
fn what_was_ignored_before_stays_ignored() {
    let server = Server::of(shell("trap '' INT HUP", &["serve", "tcp://127.0.0.1:0"]), 1, None);
    for signal in [Signal::INT, Signal::HUP] {
        server.process.signal(signal);
    }
    let told = server.end();
    assert!(told.contains("SIGTERM: draining"), "{told}");
    assert!(!told.contains("SIGINT") && !told.contains("SIGHUP"), "{told}");
}

#[test]
fn a_command_that_handles_no_signal_leaves_them_as_they_were() {
    // Blocked on entry, and so still there at the end.
    let mut command = shell("kill -TERM $$", &["--version"]);
    command.stderr(Stdio::piped());
    assert_eq!(finish(command, b"").code, Some(0));
}
