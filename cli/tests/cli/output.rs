//! Standard output that cannot be written, or that nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::process::{Process, Server, Written, resay};

/// A server, and a command line for everything that prints.
struct Commands {
    directory: tempfile::TempDir,
    server: Server,
}

impl Commands {
    fn new() -> Commands {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control");
        let server = Server::start(&["tcp://127.0.0.1:0"], &["-q", "--control", control.to_str().unwrap()]);
        Commands { directory, server }
    }

    fn each(&self, mut check: impl FnMut(&[&str], Command)) {
        let control = self.directory.path().join("control");
        let (control, url) = (control.to_str().unwrap(), self.server.url());
        let directory = self.directory.path().to_str().unwrap();
        let short = ["-d", "20ms", "--warmup", "0s"];
        let table: &[&[&str]] = &[
            &["help"],
            &["help", "serve"],
            &["bench", "--help"],
            &["-h"],
            &["--version"],
            &["man"],
            &["man", "plugin", "check"],
            &["completions", "bash"],
            &["completions", "zsh"],
            &["completions", "fish"],
            &["ctl", control, "stats"],
            &["ctl", control, "stats", "--json"],
            &["ctl", control, "connections"],
            &["ctl", control, "listeners"],
            &["ctl", control, "chain", "all"],
            &["send", url, "hello"],
            &["send", url, "hello", "--expect", "hello"],
            &["repl", url],
            &[&["bench", url], short.as_slice()].concat(),
            &[&["bench", url, "--json", "-"], short.as_slice()].concat(),
            &[&["bench", "--compare", "identity", "--rounds", "1"], short.as_slice()].concat(),
            &["plugin", "list"],
            &["plugin", "new", "shout", "--lang", "c", "--dir", directory],
        ];
        for arguments in table {
            let _ = fs::remove_dir_all(Path::new(directory).join("shout"));
            check(arguments, resay(*arguments));
        }
    }
}

/// Runs it with a line for standard input.
fn run(mut command: Command) -> (ExitStatus, String) {
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"line\n").unwrap();
    drop(writer);
    let mut process = Process(command.stdin(reader).stderr(Stdio::piped()).spawn().unwrap());
    let stderr = Written::follow(process.0.stderr.take().unwrap());
    (process.wait(), stderr.to_end())
}

#[test]
fn a_full_disk_is_no_success() {
    let commands = Commands::new();
    commands.each(|arguments, mut command| {
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let (status, stderr) = run(command);
        assert_eq!(status.code(), Some(5), "{arguments:?} {stderr}");
        assert!(stderr.contains("resay: standard output: No space left"), "{arguments:?} {stderr}");
    });
    commands.server.end();
}

#[test]
fn a_closed_standard_output_is_no_success() {
    let commands = Commands::new();
    commands.each(|arguments, command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec "$0" "$@" >&-"#]).arg(command.get_program()).args(command.get_args());
        let (status, stderr) = run(shell);
        assert_eq!(status.code(), Some(5), "{arguments:?} {stderr}");
        assert!(stderr.contains("resay: standard output: Bad file descriptor"), "{arguments:?} {stderr}");
    });
    commands.server.end();
}

#[test]
fn a_reader_that_has_stopped_ends_it_quietly_by_sigpipe() {
    let commands = Commands::new();
    commands.each(|arguments, mut command| {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (status, stderr) = run({
            command.stdout(writer);
            command
        });
        assert_eq!(status.signal(), Some(Signal::PIPE.as_raw()), "{arguments:?} {status} {stderr}");
        let told: Vec<_> = stderr.lines().filter(|line| !line.contains("warning: ")).collect();
        assert!(told.is_empty(), "{arguments:?} {stderr}");
    });
    commands.server.end();
}

#[test]
fn a_wrong_answer_is_told_though_nobody_reads_it() {
    let server = Server::start(&["tcp://127.0.0.1:0"], &["-q"]);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = resay(["send", server.url(), "hello", "--expect", "other"]);
    command.stdout(writer);
    assert_eq!(run(command).0.code(), Some(1));
    server.end();
}

#[test]
fn a_server_serves_without_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" >&-"#]).arg(env!("CARGO_BIN_EXE_resay"));
    shell.args(["serve", "tcp://127.0.0.1:0", "--control"]).arg(&control).stderr(Stdio::piped());
    let mut process = Process(shell.spawn().unwrap());
    let stderr = Written::follow(process.0.stderr.take().unwrap());
    stderr.wait_for("standard output: Bad file descriptor");
    stderr.wait_for("serving all the same");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

/// One module prints; a print beside it would lose its errors.
#[test]
fn one_module_writes_to_standard_output() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let mut text = String::new();
            File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            let text = text.replace("io::stdout().is_terminal()", "");
            let prints = ["io::stdout()", "println!(", " print!("];
            let found = prints.into_iter().find(|print| text.contains(print));
            assert!(found.is_none() || path.ends_with("src/output.rs"), "{found:?} in {path:?}");
            files += 1;
        }
    }
    assert!(files > 20);
}
