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
