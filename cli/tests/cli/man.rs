//! `resay man` and `resay completions`.

use std::fs;
use std::process::Command;

use crate::process::{finish, run};

/// Every command that has a page, as its words.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["serve"],
    &["ctl"],
    &["ctl", "stats"],
    &["ctl", "connections"],
    &["ctl", "listeners"],
    &["ctl", "chain"],
    &["ctl", "drain"],
    &["ctl", "stop"],
    #[cfg(feature = "top")]
    &["top"],
    &["send"],
    &["repl"],
    &["plugin"],
    &["plugin", "list"],
    &["plugin", "info"],
    &["plugin", "check"],
    &["plugin", "new"],
    &["completions"],
    &["man"],
];

fn page(words: &[&str]) -> String {
    let output = run(["man"].iter().chain(words), b"");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{words:?}");
    output.text()
}

#[test]
fn every_command_has_a_page_with_every_option_of_its_help() {
    for &words in COMMANDS {
        let page = page(words);
        let name = ["resay"].iter().chain(words).copied().collect::<Vec<_>>().join("-");
        let title =
            format!(".TH {} 1 \"\" \"Resay {}\" \"Resay Manual\"", name.to_uppercase(), resay::VERSION);
        assert!(page.lines().any(|line| line == title), "{title}\n{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"SEE ALSO\""] {
            assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section}\n{page}");
        }
        let arguments: Vec<_> = words.iter().chain(&["--help"]).copied().collect();
        let arguments = if words.starts_with(&["ctl"]) && words.len() > 1 {
            vec!["ctl", "socket", words[1], "--help"]
        } else {
            arguments
        };
        let help = run(&arguments, b"").text();
        let options: Vec<_> = help
            .split(|c: char| !(c.is_alphanumeric() || c == '-'))
            .filter(|w| w.starts_with("--"))
            .collect();
        assert!(options.contains(&"--help"), "{help}");
        for option in options.into_iter().filter(|option| option.len() > 2) {
            assert!(page.contains(&option.replace('-', r"\-")), "{name}: {option}\n{page}");
        }
    }
}

#[test]
fn the_page_of_serve_has_every_option_of_listeners_and_the_examples_as_they_stand() {
    let page = page(&["serve"]);
    for key in resay::options::KEYS {
        assert!(page.contains(&format!("{}=", key.name)), "{}\n{page}", key.name);
    }
    assert!(page.contains("\n.nf\nresay serve tcp://127.0.0.1:8888 \\-t uppercase\n"), "{page}");
    assert!(!page.contains('`'), "roff makes a quotation mark of a backtick\n{page}");
}

#[test]
fn the_synopsis_has_what_comes_before_a_command() {
    let page = page(&["ctl", "chain"]);
    assert!(page.contains(r"\fBctl\fR \fISOCKET\fR \fBchain\fR"), "{page}");
}

#[test]
fn all_pages_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("man/man1");
    let output = run(["man", "--dir", below.to_str().unwrap()], b"");
    assert_eq!((output.code, output.text().as_str(), output.stderr.as_str()), (Some(0), "", ""));
    for &words in COMMANDS {
        let name = ["resay"].iter().chain(words).copied().collect::<Vec<_>>().join("-");
        let file = fs::read_to_string(below.join(format!("{name}.1"))).unwrap();
        assert_eq!(file, page(words), "{name}");
    }
    let count = fs::read_dir(&below).unwrap().count();
    assert!(count >= COMMANDS.len(), "{count}");
}

#[test]
fn a_page_that_is_not_there_exits_2_and_says_which_there_are() {
    for (words, part) in [
        (&["nonsense"][..], "unknown command \"nonsense\"; resay has serve, "),
        (&["serv"], "unknown command \"serv\", did you mean \"serve\"?"),
        (&["plugin", "chek"], "unknown command \"chek\", did you mean \"check\"?"),
        (&["plugin", "nonsense"], "resay plugin has list, "),
        (&["serve", "x"], "resay serve has no commands"),
    ] {
        let output = run(["man"].iter().chain(words), b"");
        assert_eq!((output.code, output.text().as_str()), (Some(2), ""));
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run(["man", "--dir", file.join("below").to_str().unwrap()], b"");
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("file/below"), "{}", output.stderr);
}

#[test]
fn bash_completes_commands_and_options() {
    let script = run(["completions", "bash"], b"");
    assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
    for (typed, expected) in [
        (&["resay", "ser"][..], "serve"),
        (&["resay", "serve", "--dra"], "--drain-timeout"),
        (&["resay", "plugin", "ch"], "check"),
        (&["resay", "completions", "z"], "zsh"),
    ] {
        let words: Vec<_> = typed.iter().map(|word| format!("'{word}'")).collect();
        let last = typed.len() - 1;
        let code = format!(
            "{}\nCOMP_WORDS=({}); COMP_CWORD={last}; _resay resay '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.text(),
            words.join(" "),
            typed[last],
            typed[last - 1],
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &code]);
        let output = finish(bash, b"");
        assert_eq!((output.text().trim(), output.stderr.as_str()), (expected, ""), "{typed:?}");
    }
}

#[test]
fn the_other_shells_have_scripts_too() {
    for (shell, begin) in [("zsh", "#compdef resay"), ("fish", "# Print an optspec")] {
        let output = run(["completions", shell], b"");
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{shell}");
        let text = output.text();
        assert!(text.starts_with(begin) && text.contains("drain-timeout"), "{shell}: {text}");
    }
    assert_eq!(run(["completions", "cmd.exe"], b"").code, Some(2));
}
