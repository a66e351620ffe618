//! What a word that is being typed may become, where that is more than the names of commands and options: chains, URLs,
//! options of listeners, framings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};
use resay::net::address::Address;
use resay::options::KEYS;
use resay::{EventKind, TransformInfo};

use crate::mistake::TLS_OPTIONS;
use crate::unquoted::Unquoted;

/// A word, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) text: String,
    pub(super) help: String,
}

const SCHEMES: [(&str, &str); 7] = [
    ("tcp://", "TCP"),
    ("udp://", "UDP"),
    ("unix:", "unix stream socket"),
    ("unix-dgram:", "unix datagram socket"),
    ("unix-seqpacket:", "unix seqpacket socket"),
    ("tls://", "TLS over TCP"),
    ("unix+tls:", "TLS over a unix stream socket"),
];
const INHERITED: [(&str, &str); 2] =
    [("fd:", "an open descriptor"), ("systemd:", "a socket of the service manager")];
const FRAMES: [(&str, &str); 10] = [
    ("raw", "whatever one read brings"),
    ("lines", "up to a newline"),
    ("delim:", "up to these bytes, in hexadecimal"),
    ("len8", "a length of 1 byte before each message"),
    ("len16be", "a length of 2 bytes, the highest first"),
    ("len16le", "a length of 2 bytes, the lowest first"),
    ("len32be", "a length of 4 bytes, the highest first"),
    ("len32le", "a length of 4 bytes, the lowest first"),
    ("varint", "a length of 7 bits a byte"),
    ("fixed:", "so many bytes each"),
];
/// As [`Lang`](resay_check::Lang) reads them.
const LANGUAGES: [(&str, &str); 3] =
    [("c", "a file and a Makefile"), ("c++", "likewise, in C++11"), ("rust", "a package with the SDK")];
const BACKENDS: [(&str, &str); 3] =
    [("auto", "what has measured best on this kernel"), ("epoll", "readiness"), ("uring", "io_uring")];

/// What the last of `words` may become; `root` is the whole command, the first word its name. Nothing: the shell's own
/// completion knows better.
pub(super) fn candidates(root: &Command, words: &[String]) -> Vec<Candidate> {
    let Some((word, before)) = words.split_last() else { return Vec::new() };
    let place = Place::find(root, before.get(1..).unwrap_or_default());
    let (argument, word, prefix) = match (place.expected, word.split_once('=')) {
        (Some(argument), _) => (Some(argument), word.as_str(), String::new()),
        (None, Some((name, value))) if name.starts_with("--") && !place.is_positional_only => {
            (long(place.command, name), value, format!("{name}="))
        }
        _ if word.starts_with('-') && !place.is_positional_only => return Vec::new(),
        _ => (place.positional(), word.as_str(), String::new()),
    };
    let Some(argument) = argument else { return Vec::new() };
    let mut found = values(&place, argument, word);
    for candidate in &mut found {
        candidate.text.insert_str(0, &prefix);
    }
    found
}

/// Where in the command line the last word stands.
struct Place<'a> {
    root: &'a Command,
    command: &'a Command,
    /// The option whose value is next.
    expected: Option<&'a Arg>,
    /// Positional arguments before it.
    positionals: Vec<&'a str>,
    is_positional_only: bool,
    plugin_directories: Vec<PathBuf>,
}

impl<'a> Place<'a> {
    fn find(root: &'a Command, before: &'a [String]) -> Place<'a> {
        let mut place = Place {
            root,
            command: root,
            expected: None,
            positionals: Vec::new(),
            is_positional_only: false,
            plugin_directories: Vec::new(),
        };
        for word in before {
            place.pass(word);
        }
        place
    }

    fn pass(&mut self, word: &'a str) {
        if let Some(option) = self.expected.take() {
            self.value(option, word);
        } else if self.is_positional_only {
            self.positionals.push(word);
        } else if word == "--" {
            self.is_positional_only = true;
        } else if word.starts_with("--") {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            match (long(self.command, name), value) {
                (Some(option), Some(value)) => self.value(option, value),
                (option, None) => self.expected = option.filter(|option| takes_value(option)),
                (None, Some(_)) => {}
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let named =
                |letter| self.command.get_arguments().find(|option| option.get_short() == Some(letter));
            let with_value = letters.char_indices().find_map(|(at, letter)| {
                named(letter)
                    .filter(|option| takes_value(option))
                    .map(|option| (option, at + letter.len_utf8()))
            });
            // What follows the letter in the same word is its value.
            self.expected = with_value.filter(|(_, end)| *end == letters.len()).map(|(option, _)| option);
        } else if let Some(below) = self.command.find_subcommand(word) {
            self.command = below;
            self.positionals.clear();
        } else {
            self.positionals.push(word);
        }
    }

    fn value(&mut self, option: &Arg, value: &str) {
        if option.get_id() == "plugin_directories" {
            self.plugin_directories.push(value.into());
        }
    }

    /// The positional argument that is next.
    fn positional(&self) -> Option<&'a Arg> {
        let mut all = self.command.get_positionals();
        let last = self
            .command
            .get_positionals()
            .last()
            .filter(|last| matches!(last.get_action(), ArgAction::Append));
        all.nth(self.positionals.len()).or(last)
    }

    fn transforms(&self) -> Vec<TransformInfo> {
        resay::transforms(&self.plugin_directories).0
    }
}

fn long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let name = name.strip_prefix("--")?;
    command.get_arguments().find(|option| option.get_long() == Some(name))
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

fn values(place: &Place<'_>, argument: &Arg, word: &str) -> Vec<Candidate> {
    match (place.command.get_name(), argument.get_id().as_str()) {
        ("serve", "urls") => url(word, true),
        ("send" | "repl" | "bench", "url") => url(word, false),
        ("listen", "url") => url(word, true),
        ("set", "key") => {
            let keys = KEYS.iter().filter(|key| key.name.starts_with(word) && key.name != "chain");
            keys.map(|key| Candidate {
                text: key.name.to_owned(),
                help: format!("{}: {}", key.value, key.help),
            })
            .collect()
        }
        ("watch", "kinds") => event_kinds(word),
        ("serve", "transform") | ("bench", "expect") | ("chain", "spec") => {
            chain(word, &['|'], &place.transforms())
        }
        ("info" | "check", "target") => names(word, &place.transforms()),
        ("new", "lang") => among(&LANGUAGES, word),
        ("bench", "compare") => chain(word, &['|', ','], &place.transforms()),
        ("serve", "set") => listener_option(word, |_| true),
        ("serve" | "bench", "backend") => among(&BACKENDS, word),
        ("bench", "frame") => among(&FRAMES, word),
        ("man", "path") => commands(place, word),
        _ => Vec::new(),
    }
}

/// The names of transforms; a file is the shell's to complete.
fn names(word: &str, transforms: &[TransformInfo]) -> Vec<Candidate> {
    let named = transforms.iter().filter(|transform| transform.id.starts_with(word));
    named.map(|info| Candidate { text: info.id.clone(), help: info.summary.clone() }).collect()
}

/// The kind behind the last comma.
fn event_kinds(word: &str) -> Vec<Candidate> {
    let (done, kind) = word.split_at(word.rfind(',').map_or(0, |at| at + 1));
    let names = EventKind::ALL.into_iter().map(EventKind::name).filter(|name| name.starts_with(kind));
    names.map(|name| Candidate { text: format!("{done}{name}"), help: String::new() }).collect()
}

fn among(all: &[(&str, &str)], word: &str) -> Vec<Candidate> {
    let matching = all.iter().filter(|(text, _)| text.starts_with(word));
    matching.map(|(text, help)| Candidate { text: (*text).to_owned(), help: (*help).to_owned() }).collect()
}

/// The commands below those that are there already.
fn commands(place: &Place<'_>, word: &str) -> Vec<Candidate> {
    let mut at = Some(place.root);
    for name in &place.positionals {
        at = at.and_then(|command| command.find_subcommand(name));
    }
    let below = at.into_iter().flat_map(Command::get_subcommands).filter(|below| !below.is_hide_set());
    let named = below.filter(|below| below.get_name() != "help" && below.get_name().starts_with(word));
    named
        .map(|below| Candidate {
            text: below.get_name().to_owned(),
            help: below.get_about().map(ToString::to_string).unwrap_or_default(),
        })
        .collect()
}

/// A scheme, or an option in the query of a URL that listens.
fn url(word: &str, listens: bool) -> Vec<Candidate> {
    let Some((address, query)) = word.split_once('?') else {
        let mut found = among(&SCHEMES, word);
        if listens {
            found.extend(among(&INHERITED, word));
        }
        return found;
    };
    let Some(kind) = address.parse().ok().filter(|_| listens).map(|address: Address| address.kind()) else {
        return Vec::new();
    };
    let start = query.rfind('&').map_or(0, |at| at + 1);
    let (done, option) = query.split_at(start);
    let is_new =
        |name: &str| !done.split('&').any(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name));
    let mut found = listener_option(option, |key| is_new(key.name) && key.applies_to(kind));
    if address.starts_with("tls:") || address.starts_with("unix+tls:") {
        found.extend(tls_option(option, is_new));
    }
    for candidate in &mut found {
        candidate.text.insert_str(0, &format!("{address}?{done}"));
    }
    found
}

/// `key=` or `key=value` of TLS. A certificate may be there several times, each with its key.
fn tls_option(word: &str, is_new: impl Fn(&str) -> bool) -> Vec<Candidate> {
    let Some((name, value)) = word.split_once('=') else {
        let meant = TLS_OPTIONS
            .iter()
            .filter(|(key, _)| key.starts_with(word) && (is_new(key) || matches!(*key, "cert" | "key")));
        return meant
            .map(|(key, help)| Candidate { text: format!("{key}="), help: (*help).to_owned() })
            .collect();
    };
    let values = match name {
        "client" => "none|ask|require",
        "min" => "1.2|1.3",
        // A file is the shell's to complete.
        _ => return Vec::new(),
    };
    let mut found = choices(values, value);
    for candidate in &mut found {
        candidate.text.insert_str(0, &format!("{name}="));
    }
    found
}

/// `key=` or `key=value` of a listener.
fn listener_option(word: &str, is_meant: impl Fn(&resay::options::Key) -> bool) -> Vec<Candidate> {
    let Some((name, value)) = word.split_once('=') else {
        let meant = KEYS.iter().filter(|key| key.name.starts_with(word) && is_meant(key));
        return meant
            .map(|key| Candidate {
                text: format!("{}=", key.name),
                help: format!("{}: {}", key.value, key.help),
            })
            .collect();
    };
    let Some(key) = KEYS.iter().find(|key| key.name == name) else { return Vec::new() };
    let mut found = match key.value {
        "FRAME" => among(&FRAMES, value),
        form => choices(form, value),
    };
    for candidate in &mut found {
        candidate.text.insert_str(0, &format!("{name}="));
    }
    found
}

/// The words of a form such as `0|1|DURATION` that stand for themselves, and `0` and `1` for `bool`.
fn choices(form: &str, word: &str) -> Vec<Candidate> {
    let words = if form == "bool" { "0|1" } else { form };
    let is_literal =
        |word: &&str| *word != "string" && !word.contains(|c: char| c.is_ascii_uppercase() || c == '/');
    let is_choice = words.contains('|');
    let matching = words.split('|').filter(|word| is_choice && is_literal(word));
    matching
        .filter(|text| text.starts_with(word))
        .map(|text| Candidate { text: text.to_owned(), help: String::new() })
        .collect()
}

/// The name of a transform, one of its options, or an option's value, behind what stands of the chain already.
fn chain(word: &str, separators: &[char], transforms: &[TransformInfo]) -> Vec<Candidate> {
    let Some(start) = stage_start(word, separators) else { return Vec::new() };
    let (before, stage) = word.split_at(start);
    let blanks = stage.len() - stage.trim_start().len();
    let (blanks, stage) = stage.split_at(blanks);
    let mut found = match stage.split_once(':') {
        // A file is the shell's to complete.
        _ if stage.contains('/') => Vec::new(),
        None => names(stage, transforms),
        Some((name, options)) => {
            let transform = transforms.iter().find(|transform| transform.id == name);
            transform.map(|transform| transform_option(transform, options)).unwrap_or_default()
        }
    };
    for candidate in &mut found {
        candidate.text.insert_str(0, &format!("{before}{blanks}"));
    }
    found
}

/// Where the last stage begins; `None`: within a quoted value. A comma before `key=` does not separate chains.
fn stage_start(word: &str, separators: &[char]) -> Option<usize> {
    let mut start = 0;
    let mut unquoted = Unquoted::new(word);
    for (at, letter) in unquoted.by_ref() {
        if !separators.contains(&letter) {
            continue;
        }
        let behind = at + letter.len_utf8();
        let has_options = || word.get(start..at).is_some_and(|stage| stage.contains(':'));
        if letter != ',' || !has_options() || !is_option(word.get(behind..).unwrap_or_default()) {
            start = behind;
        }
    }
    (!unquoted.is_within_quotes()).then_some(start)
}

/// Whether the text is, or may become, `key=`.
fn is_option(text: &str) -> bool {
    let end = text.find([',', '|', ':', '=']).unwrap_or(text.len());
    text.get(end..).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn transform_option(transform: &TransformInfo, options: &str) -> Vec<Candidate> {
    let name = &transform.id;
    let start = options.rfind(',').map_or(0, |at| at + 1);
    let (done, option) = options.split_at(start);
    let prefix = format!("{name}:{done}");
    match option.split_once('=') {
        None => {
            let is_new = |key: &str| {
                !done.split(',').any(|pair| pair.split_once('=').is_some_and(|(have, _)| have == key))
            };
            let meant = transform
                .options
                .iter()
                .filter(|option_| option_.key.starts_with(option) && is_new(option_.key));
            meant
                .map(|option| Candidate {
                    text: format!("{prefix}{}=", option.key),
                    help: format!("{}: {}", option.kind, option.help),
                })
                .collect()
        }
        Some((key, value)) => {
            let known = transform.options.iter().find(|option| option.key == key);
            let mut found = known.map(|option| choices(option.kind, value)).unwrap_or_default();
            for candidate in &mut found {
                candidate.text.insert_str(0, &format!("{prefix}{key}="));
            }
            found
        }
    }
}
