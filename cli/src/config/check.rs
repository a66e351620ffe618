//! What is wrong with what a file names: directories, plugins, chains, certificates. All of it is told, each with its place; no
//! socket is opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use resay::options::Frame;
use resay::transform::spec::{ChainSpec, OptionSpec, StageSpec, Target};
use resay::{DryRun, Engine, Error, SocketKind};
use resay_plugin::file::plain;

use super::place::{Document, Source, Text};
use super::settings::{Config, Entry};
use crate::exit::{Exit, Failure, exit_of};
use crate::plugin::check_directory;

/// Options of TLS that name files, or are PEM.
const FILES: [&str; 3] = ["cert", "key", "client_ca"];

/// A fault at a byte of a chain.
struct Fault {
    at: usize,
    message: String,
    exit: Exit,
}

impl Config {
    /// Finds the plugins, tries every chain and reads the certificates, without a socket.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Document { path, text } = &self.document;
        let source = Source::new(path, text);
        check(&source, self);
        if source.has_faults() { Err(source.failure()) } else { Ok(()) }
    }
}

pub(super) fn check(source: &Source<'_>, config: &Config) {
    let mut directories = Vec::new();
    for (place, directory) in config.plugin_dirs.iter().enumerate() {
        match check_directory(directory) {
            Ok(()) => directories.push(directory.clone()),
            Err(error) => {
                let at = config.marks.plugin_dirs.get(place).map_or(0, Text::start);
                source.fault(at, format!("plugin_dirs: {}: {}", directory.display(), plain(&error)));
            }
        }
    }
    let top = chain_faults(&config.chain, &directories, SocketKind::Udp, true);
    let is_top_good = top.is_empty();
    for fault in top {
        let at = config.marks.chain.as_ref().map_or(0, |text| text.at(fault.at));
        source.fault_of(at, fault.message, fault.exit);
    }
    for entry in &config.listeners {
        let (kind, is_framed) = kind_of(entry);
        let faults = match &entry.listen.options.chain {
            Some(chain) => chain_faults(chain, &directories, kind, is_framed),
            None if is_top_good => chain_faults(&config.chain, &directories, kind, is_framed),
            None => Vec::new(),
        };
        for fault in faults {
            let message = format!("listener {:?}: {}", entry.name, fault.message);
            source.fault_of(entry.chain_at(fault.at), message, fault.exit);
        }
    }
    let engine = config.bare_builder(&directories).and_then(|builder| Ok(builder.build()?));
    match engine {
        Ok(engine) => config.listeners.iter().for_each(|entry| check_filter(source, &engine, entry)),
        Err(failure) => source.fault_of(0, failure.text(), failure.exit),
    }
}

impl Entry {
    /// The place of a byte of its chain; where it has none of its own, its address.
    fn chain_at(&self, offset: usize) -> usize {
        let marks = &self.marks;
        if self.listen.options.chain.is_none() {
            return marks.url.start();
        }
        let in_url = marks.pairs.iter().find(|pair| pair.key == "chain");
        let in_url = in_url.map(|pair| marks.url.at(pair.value_at(offset)));
        let in_table = || marks.chain.as_ref().map(|text| text.at(offset));
        in_url.or_else(in_table).unwrap_or(marks.url.start())
    }

    /// The places of the key and of the value of an option of its filter: the one that is there after `nth` others of that key.
    fn option_at(&self, option: &OptionSpec, nth: usize) -> (usize, usize) {
        let marks = &self.marks;
        let mut in_url = marks.pairs.iter().filter(|pair| pair.key == option.key);
        if let Some(pair) = in_url.nth(nth) {
            return (marks.url.at(pair.key_at(0)), marks.url.at(pair.value_at(0)));
        }
        let mut in_table = marks.tls.iter().filter(|mark| mark.key == option.key);
        if let Some(mark) = in_table.nth(nth) {
            return (mark.key_at, mark.value.start());
        }
        match &marks.filter {
            // Else the offsets are those of another spelling.
            Some(text) if self.listen.options.filter.as_ref() == Some(&text.text) => {
                (text.at(option.key_at), text.at(option.value_at))
            }
            Some(text) => (text.start(), text.start()),
            None => (marks.url.start(), marks.url.start()),
        }
    }
}

fn kind_of(entry: &Entry) -> (SocketKind, bool) {
    match entry.listen.address.socket_kind() {
        Some(kind) => (kind, entry.listen.options.frame != Frame::Raw),
        // What is handed over shows its kind only when it is there: the widest check is that of messages.
        None => (SocketKind::Udp, true),
    }
}

/// What is wrong with each stage by itself; if nothing is, with the chain.
fn chain_faults(chain: &str, directories: &[PathBuf], kind: SocketKind, is_framed: bool) -> Vec<Fault> {
    let spec = match ChainSpec::parse(chain) {
        Ok(spec) => spec,
        Err(error) => return vec![Fault { at: error.at, message: error.message, exit: Exit::Usage }],
    };
    let mut faults = Vec::new();
    for stage in &spec.stages {
        let mut rest = stage.clone();
        // Whatever is wrong with an option hides what is wrong with the next.
        while let Err(error) = DryRun::new(&rest.to_string(), directories, SocketKind::Udp, true) {
            let told = rest.options.iter().position(|option| is_about(&error, &option.key));
            let option = told.map(|place| rest.options.remove(place));
            if option.is_some() || rest.options.len() == stage.options.len() {
                let at = option.as_ref().map_or(stage.at, |option| place_of(option, &error));
                faults.push(Fault { at, message: message_of(&error), exit: exit_of(&error) });
            }
            if option.is_none() {
                break;
            }
        }
    }
    if faults.is_empty()
        && let Err(error) = DryRun::new(chain, directories, kind, is_framed)
    {
        let is_its = |stage: &&StageSpec| match (&error, &stage.target) {
            (Error::Transform { id, .. }, Target::Name(name)) => id == name,
            _ => false,
        };
        let at = spec.stages.iter().find(is_its).map_or(0, |stage| stage.at);
        faults.push(Fault { at, message: message_of(&error), exit: exit_of(&error) });
    }
    faults
}

/// Without the text that was read, which the file shows.
fn message_of(error: &Error) -> String {
    match error {
        Error::Spec(error) => error.message.clone(),
        error => error.to_string(),
    }
}

/// Whether an error names an option of that key.
fn is_about(error: &Error, key: &str) -> bool {
    let (Error::Transform { reason, .. } | Error::Filter { reason, .. }) = error else { return false };
    // What comes behind may be the keys that there are.
    let told = reason.find("option ").and_then(|at| reason.get(at + "option ".len()..));
    told.is_some_and(|told| [format!("{key:?}"), format!("'{key}'")].iter().any(|key| told.starts_with(key)))
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Transform { reason, .. } | Error::Filter { reason, .. } if reason.contains("unknown option"))
}

fn place_of(option: &OptionSpec, error: &Error) -> usize {
    if is_unknown(error) { option.key_at } else { option.value_at }
}

fn check_filter(source: &Source<'_>, engine: &Engine, entry: &Entry) {
    let mut options = entry.listen.options.clone();
    let Some(mut filter) = options.filter.as_deref().and_then(|text| StageSpec::parse_filter(text).ok())
    else {
        return;
    };
    // With the places of keys and values in the file.
    let mut seen: Vec<String> = Vec::new();
    for option in &mut filter.options {
        let nth = seen.iter().filter(|key| **key == option.key).count();
        seen.push(option.key.clone());
        (option.key_at, option.value_at) = entry.option_at(option, nth);
    }
    let fault = |at, error: &Error| {
        source.fault_of(at, format!("listener {:?}: {}", entry.name, message_of(error)), exit_of(error));
    };
    let mut has_faults = false;
    loop {
        options.filter = Some(filter.to_string());
        let Err(error) = engine.check_filter(&options) else { return };
        if let Some(option) = filter.options.iter().find(|option| is_about(&error, &option.key)) {
            fault(place_of(option, &error), &error);
            has_faults = true;
            // Another fault may be behind it.
            let key = option.key.clone();
            filter.options.retain(|option| option.key != key);
            continue;
        }
        for option in &filter.options {
            if let Some(reason) = unreadable(option) {
                let id = filter.target.to_string();
                fault(option.value_at, &Error::Filter { id, reason });
                has_faults = true;
            }
        }
        if !has_faults {
            let named = filter.options.iter().find(|option| is_of_file(&error, option));
            let at = named.map_or(entry.marks.filter_at(), |option| option.value_at);
            fault(at, &error);
        }
        return;
    }
}

/// Whether an error begins with the option and its file.
fn is_of_file(error: &Error, option: &OptionSpec) -> bool {
    let Error::Filter { reason, .. } = error else { return false };
    reason.starts_with(&format!("{} {}:", option.key, String::from_utf8_lossy(&option.value)))
}

/// Why the file that an option names cannot be read.
fn unreadable(option: &OptionSpec) -> Option<String> {
    let is_pem = option.value.trim_ascii_start().starts_with(b"-----BEGIN");
    if !FILES.contains(&option.key.as_str()) || is_pem || option.value.is_empty() {
        return None;
    }
    let path = Path::new(OsStr::from_bytes(&option.value));
    let why = match path.metadata() {
        Ok(metadata) if !metadata.is_file() => "is not a file".to_owned(),
        Ok(_) => plain(&std::fs::File::open(path).err()?),
        Err(error) => plain(&error),
    };
    Some(format!("{} {}: {why}", option.key, path.display()))
}
