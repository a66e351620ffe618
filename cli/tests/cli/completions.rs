//! Completions, in the shells that are installed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Process, Written, run, terminal, wait_until};

/// What the last word of a line may become, as the scripts are told.
fn candidates(line: &str) -> Vec<String> {
    let output = run(["completions", "fish", "--line", line], b"");
    assert_eq!(output.code, Some(0), "{line} {}", output.stderr);
    output.text().lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn values_are_known() {
    let table: &[(&str, &[&str])] = &[
        ("resay serve -t upp", &["uppercase"]),
        ("resay serve --transform=upp", &["--transform=uppercase"]),
        ("resay serve tcp://:1 -t 'uppercase | he", &["uppercase | hex"]),
        ("resay serve -t hex:", &["hex:mode="]),
        ("resay serve -t 'hex | base64:mode=encode,al", &["hex | base64:mode=encode,alphabet="]),
        ("resay serve -t base64:mode=", &["base64:mode=encode", "base64:mode=decode"]),
        ("resay serve -t uppercase:unicode=", &["uppercase:unicode=0", "uppercase:unicode=1"]),
        ("resay serve -t prefix:text=", &[]),
        ("resay serve -t ./lib", &[]),
        ("resay serve u", &["udp://", "unix:", "unix-dgram:", "unix-seqpacket:", "unix+tls:"]),
        ("resay send s", &[]),
        ("resay serve s", &["systemd:"]),
        ("resay serve -v -- tc", &["tcp://"]),
        ("resay serve tcp://:1 ud", &["udp://"]),
        ("resay serve 'tcp://:8888?back", &["tcp://:8888?backlog="]),
        ("resay serve 'tcp://:8888?backlog=1&nod", &["tcp://:8888?backlog=1&nodelay="]),
        ("resay serve 'tcp://:8888?frame=li", &["tcp://:8888?frame=lines"]),
        ("resay serve 'tcp://:8888?nodelay=", &["tcp://:8888?nodelay=0", "tcp://:8888?nodelay=1"]),
        // An option of TCP, which a datagram socket has not.
        ("resay serve 'udp://:8888?nod", &[]),
        ("resay serve --set idle_t", &["idle_timeout="]),
        ("resay serve --set frame=len8", &["frame=len8"]),
        ("resay serve --backend e", &["epoll"]),
        ("resay bench --expect rev", &["reverse"]),
        ("resay bench --compare identity,upp", &["identity,uppercase"]),
        ("resay bench --compare 'delay:time=1ms,ji", &["delay:time=1ms,jitter="]),
        ("resay bench --frame fi", &["fixed:"]),
        ("resay bench tc", &["tcp://"]),
        ("resay send tcp://:1 upp", &[]),
        ("resay send --expect upp", &[]),
        ("resay ctl /tmp/e.ctl chain all upp", &["uppercase"]),
        ("resay plugin info upp", &["uppercase"]),
        ("resay plugin check --plugin-dir . upp", &["uppercase"]),
        ("resay plugin info ./lib", &[]),
        ("resay plugin new x --lang ", &["c", "c++", "rust"]),
        ("resay serve 'tls://:8443?cl", &["tls://:8443?client_ca=", "tls://:8443?client="]),
        ("resay serve 'unix+tls:/e?cert=a&cer", &["unix+tls:/e?cert=a&cert="]),
        ("resay serve 'tls://:8443?client=re", &["tls://:8443?client=require"]),
        ("resay serve 'tcp://:8443?cert", &[]),
        ("resay man pl", &["plugin"]),
        ("resay man plugin ch", &["check"]),
        ("resay serve -", &[]),
        ("resay ser", &[]),
        ("resay", &[]),
        ("", &[]),
    ];
    for (line, expected) in table {
        assert_eq!(candidates(line), *expected, "{line}");
    }
    assert!(candidates("resay serve -t ").contains(&"uppercase".to_owned()));
}

#[test]
fn every_transform_option_key_and_scheme_can_be_completed() {
    for transform in resay::transforms(&[]).0 {
        let found = candidates(&format!("resay serve -t {}", transform.id));
        assert!(found.contains(&transform.id), "{found:?}");
        let found = candidates(&format!("resay serve -t {}:", transform.id));
        let keys: Vec<_> =
            transform.options.iter().map(|option| format!("{}:{}=", transform.id, option.key)).collect();
        assert_eq!(found, keys);
    }
    let keys: Vec<_> = resay::options::KEYS.iter().map(|key| format!("{}=", key.name)).collect();
    assert_eq!(candidates("resay serve --set "), keys);
    // What is completed is accepted.
    for frame in candidates("resay serve --set frame=") {
        let frame = frame.strip_prefix("frame=").unwrap();
        let whole = match frame {
            "delim:" => "delim:0a",
            "fixed:" => "fixed:8",
            frame => frame,
        };
        resay::Options::default().set("frame", whole).unwrap();
    }
}

/// The shell by that name, if it is installed.
fn shell(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A directory with `script` and the command in it, and a shell that finds the command first.
fn prepared(shell: &Path, name: &str) -> (tempfile::TempDir, Command) {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_resay"), directory.path().join("resay")).unwrap();
    fs::write(directory.path().join("script"), run(["completions", name], b"").stdout).unwrap();
    let mut command = Command::new(shell);
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    command
        .env("PATH", path)
        .env("HOME", directory.path())
        .env("TERM", "xterm")
        .env_remove("RESAY_PLUGIN_PATH");
    command.current_dir(directory.path());
    (directory, command)
}

/// What is typed before a tab, and what is then there.
const TYPED: [(&str, &str); 13] = [
    ("resay ser", "resay serve "),
    ("resay serve --transf", "resay serve --transform"),
    ("resay serve -t uppe", "resay serve -t uppercase "),
    ("resay serve --transform=uppe", "resay serve --transform=uppercase "),
    ("resay bench -c 4 --frame=varin", "resay bench -c 4 --frame=varint "),
    ("resay serve -t hex:mo", "resay serve -t hex:mode="),
    ("resay serve -t hex:mode=dec", "resay serve -t hex:mode=decode "),
    ("resay serve -t 'uppercase | rever", "resay serve -t 'uppercase | reverse'"),
    ("resay plugin info uppe", "resay plugin info uppercase "),
    ("resay plugin new x --lang ru", "resay plugin new x --lang rust "),
    ("resay serve 'tls://:8443?client_", "resay serve 'tls://:8443?client_ca="),
    ("resay send unix-d", "resay send unix-dgram:"),
    ("resay serve 'tcp://:8888?backl", "resay serve 'tcp://:8888?backlog="),
];

/// What a terminal shows, without its control sequences.
fn plain(screen: &str) -> String {
    let mut text = String::new();
    let mut letters = screen.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                let _end = letters.find(|letter| letter.is_ascii_alphabetic() || matches!(letter, '=' | '>'));
            }
            _ if letter.is_control() => {}
            _ => text.push(letter),
        }
    }
    text
}

/// Types at a shell's prompt, and sees what a tab makes of it.
fn complete_at_a_terminal(mut command: Command, setup: &str) {
    let (mut keys, terminal) = terminal();
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut process = Process(command.spawn().unwrap());
    drop(command);
    let screen = Written::follow(keys.try_clone().unwrap());
    // The answer of a command cannot be taken for what was typed.
    keys.write_all(format!("{setup}; echo rea''dy\n").as_bytes()).unwrap();
    screen.wait_for("ready\r\n");
    for (number, (typed, expected)) in TYPED.into_iter().enumerate() {
        let before = screen.text().len();
        keys.write_all(format!("{typed}\t").as_bytes()).unwrap();
        wait_until(&format!("{typed:?} becomes {expected:?}"), || {
            screen.text().get(before..).is_some_and(|text| plain(text).contains(expected)).then_some(())
        });
        // Ctrl-U takes the line away; another one shows that the shell is there.
        keys.write_all(format!("\x15echo li''ne-{number}\r").as_bytes()).unwrap();
        screen.wait_for(&format!("line-{number}\r\n"));
    }
    keys.write_all(b"exit\r").unwrap();
    process.wait();
}

#[test]
fn bash_completes() {
    let Some(bash) = shell("bash") else { return };
    let (_directory, mut command) = prepared(&bash, "bash");
    command.args(["--norc", "--noprofile", "-i"]);
    complete_at_a_terminal(command, "PS1='> '; bind 'set enable-bracketed-paste off'; source ./script");
}

#[test]
fn zsh_completes() {
    let Some(zsh) = shell("zsh") else { return };
    let (_directory, mut command) = prepared(&zsh, "zsh");
    command.args(["-f", "-i"]);
    let setup = "PS1='> '; setopt interactivecomments; unset zle_bracketed_paste; autoload -U compinit; \
                 compinit -u -d ./dump; source ./script; bindkey -e";
    complete_at_a_terminal(command, setup);
}

#[test]
fn fish_completes() {
    let Some(fish) = shell("fish") else { return };
    for (typed, expected) in TYPED {
        let (_directory, mut command) = prepared(&fish, "fish");
        let quoted = typed.replace('\\', "\\\\").replace('\'', "\\'");
        command.args(["--no-config", "-c", &format!("source ./script; complete -C '{quoted}'")]);
        command.stdin(Stdio::null());
        let output = crate::process::finish(command, b"");
        let found: Vec<_> =
            output.text().lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
        let word = expected.trim_end().rsplit_once([' ']).map_or(expected, |(_, word)| word);
        let word = word.trim_matches('\'');
        assert!(found.iter().any(|found| found.ends_with(word)), "{typed} {found:?} {}", output.stderr);
    }
}
