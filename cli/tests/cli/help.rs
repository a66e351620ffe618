use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::run;

#[test]
fn help_mentions_every_argument() {
    let table: [(&[&str], &[&str]); 9] = [
        (&["--help"], &["serve", "ctl", "send", "repl", "bench", "plugin", "Exit status"]),
        (
            &["serve", "--help"],
            &[
                "[URL]...",
                "-t, --transform",
                "--set",
                "--threads",
                "--backend",
                "--plugin-dir",
                "--control",
                "--log",
                "-v, --verbose",
                "-q, --quiet",
                "--drain-timeout",
                "SIGTERM",
                "SIGHUP",
                "Examples:",
                "unix-seqpacket:",
                "Chains:",
            ],
        ),
        (
            &["ctl", "--help"],
            &[
                "stats",
                "connections",
                "listeners",
                "chain",
                "drain",
                "stop",
                "--json",
                "Examples:",
                "Chains:",
            ],
        ),
        (&["ctl", "x", "chain", "--help"], &["<LISTENER>", "[SPEC]", "swap_timeout", "--timeout"]),
        (&["help", "send"], &["[TEXT]...", "--expect", "--timeout", "Examples:", "Exit status"]),
        (
            &["repl", "--help"],
            &["--newline", "--hex", "--timeout", ":hex on", "xNN", "Ctrl-D", "history", "Examples:"],
        ),
        (
            &["bench", "--help"],
            &[
                "[URL]",
                "-c, --connections",
                "-s, --size",
                "-p, --pipeline",
                "-d, --duration",
                "--warmup",
                "--rate",
                "--expect",
                "--frame",
                "--threads",
                "--timeout",
                "--lost-after",
                "--seed",
                "--plugin-dir",
                "--json",
                "--csv",
                "--html",
                "--compare",
                "--rounds",
                "--cores",
                "--backend",
                "--server-threads",
                "Examples:",
                "Exit status",
            ],
        ),
        (&["plugin", "--help"], &["list"]),
        (&["plugin", "list", "--help"], &["--plugin-dir", "--verbose", "Examples:"]),
    ];
    for (arguments, parts) in table {
        let output = run(arguments, b"");
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        let text = output.text();
        for part in parts {
            assert!(text.contains(part), "{arguments:?} does not mention {part:?}:\n{text}");
        }
    }
}

#[test]
fn help_of_serve_has_every_option_of_listeners() {
    let text = run(["help", "serve"], b"").text();
    for key in resay::options::KEYS {
        assert!(text.contains(&format!("  {}={}", key.name, key.value)), "{}\n{text}", key.name);
    }
}

#[test]
fn the_version_is_the_library_s() {
    assert_eq!(run(["--version"], b"").text(), format!("resay {}\n", resay::VERSION));
}

#[test]
fn wrong_usage_exits_2() {
    let table: [&[&str]; 11] = [
        &[],
        &["nonsense"],
        &["serve"],
        &["serve", "tcp://127.0.0.1:0", "--unknown"],
        &["serve", "tcp://127.0.0.1:0", "-v", "-q"],
        &["send", "tcp://127.0.0.1:1", "--timeout", "5"],
        &["plugin"],
        &["ctl"],
        &["ctl", "/tmp/none"],
        &["ctl", "/tmp/none", "nonsense"],
        &["ctl", "/tmp/none", "drain", "--within", "soon"],
    ];
    for arguments in table {
        let output = run(arguments, b"");
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""), "{arguments:?}");
        assert_ne!(output.stderr, "", "{arguments:?}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What stands between this fence and the next, of the first block with these words in it.
fn block(page: &str, fence: &str, words: &str) -> String {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let opening = format!("\n```{fence}\n");
    let blocks = text.split(&opening).skip(1);
    let mut found = blocks.map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n");
    found
        .find(|block| block.contains(words))
        .unwrap_or_else(|| panic!("{page} has no {fence} with {words:?}"))
}

/// Runs a command as it stands on a page, from this directory.
fn paste(line: &str, directory: &Path) -> String {
    let resay = Path::new(env!("CARGO_BIN_EXE_resay")).parent().unwrap();
    let path = format!("{}:{}", resay.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").args(["-c", line]).env("PATH", path).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{}{errors}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_guide_s_check_of_its_table_can_be_pasted() {
    assert_eq!(paste(&block("docs/serving.md", "sh", "the table is true"), root()), "the table is true\n");
}

#[test]
fn the_guide_s_first_plugin_can_be_pasted() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("include"), directory.path().join("include")).unwrap();
    fs::write(directory.path().join("shout.c"), block("docs/plugins.md", "c", "\"shout\"")).unwrap();
    let commands = block("docs/plugins.md", "console", "shout.c");
    let mut lines = commands.lines().filter_map(|line| line.strip_prefix("$ "));
    let (compile, check) = (lines.next().unwrap(), lines.next().unwrap());
    paste(compile, directory.path());
    assert!(compile.starts_with("cc ") && check.starts_with("resay plugin check "), "{commands}");
    assert!(paste("resay plugin info ./libshout.so", directory.path()).contains("shout"));
}

#[test]
fn options_of_listeners_are_told_from_flags() {
    let url = "tcp://127.0.0.1:1";
    let table: [(&[&str], &str); 13] = [
        (&["serve", url, "--frame", "lines"], "'URL?frame=lines', or of all: --set frame=lines"),
        (&["serve", url, "--idle-timeout=30s"], "--set idle_timeout=30s"),
        (&["serve", url, "--backlog", "1"], "--set backlog=COUNT"),
        (&["serve", url, "--max-connections", "1"], "--set max_connections=COUNT"),
        (&["serve", url, "--mode", "600"], "--set mode=OCTAL"),
        (&["serve", url, "--nodelay", "0"], "'nodelay' is an option of listeners"),
        (&["serve", url, "--chain", "hex"], "--transform CHAIN"),
        (&["serve", url, "--cert", "x"], "'tls://HOST:PORT?cert="),
        (&["serve", url, "--client-ca", "x"], "client_ca"),
        (&["send", url, "--frame", "lines"], "resay serve 'URL?frame=lines'"),
        (&["repl", url, "--frame", "lines"], "--newline"),
        (&["bench", url, "--nodelay"], "an option of the server's listeners"),
        (&["ctl", "x", "stats", "--idle-timeout", "1s"], "set LISTENER idle_timeout 30s"),
    ];
    for (arguments, part) in table {
        let output = run(arguments, b"");
        assert_eq!(output.code, Some(2), "{arguments:?}");
        assert!(output.stderr.contains(part), "{arguments:?} {}", output.stderr);
        for wrong in ["-- --", "similar argument"] {
            assert!(!output.stderr.contains(wrong), "{arguments:?} {}", output.stderr);
        }
    }
    // A slip of the keys is still one.
    assert!(run(["serve", url, "--drain-timeot", "1s"], b"").stderr.contains("'--drain-timeout'"));
}

#[test]
fn a_command_that_is_almost_there_is_suggested_by_help_too() {
    for (words, meant) in [(&["help", "srve"][..], "serve"), (&["plugin", "help", "chek"], "check")] {
        let output = run(words, b"");
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(&format!("'{meant}'")), "{words:?} {}", output.stderr);
    }
}

#[test]
fn what_is_no_number_is_told_in_words() {
    let table: [(&[&str], &str); 5] = [
        (&["ctl", "/tmp/none", "close", "abc"], "'abc' for '<ID>': a whole number is expected"),
        (&["ctl", "/tmp/none", "tap", "all", "x"], "'x' for '[COUNT]': a whole number is expected"),
        (&["ctl", "/tmp/none", "close", "99999999999999999999"], "too large"),
        (&["serve", "tcp://127.0.0.1:0", "--threads", ""], "a whole number is expected"),
        (&["bench", "tcp://127.0.0.1:1", "--server-pid", "me"], "a whole number is expected"),
    ];
    for (arguments, part) in table {
        let output = run(arguments, b"");
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(part), "{arguments:?} {}", output.stderr);
        assert!(!output.stderr.contains("digit found"), "{}", output.stderr);
    }
}

#[test]
fn system_errors_have_no_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none").display().to_string();
    let table: [&[&str]; 5] = [
        &["serve", "tcp://127.0.0.1:0", "--plugin-dir", &none],
        &["serve", "--config", &none],
        &["send", &format!("unix:{none}"), "x"],
        &["ctl", &none, "stats"],
        &["bench", "tcp://127.0.0.1:1", "--json", &format!("{none}/x")],
    ];
    for arguments in table {
        let output = run(arguments, b"");
        assert!(output.stderr.contains("No such file or directory"), "{arguments:?} {}", output.stderr);
        assert!(!output.stderr.contains("os error"), "{arguments:?} {}", output.stderr);
    }
}
