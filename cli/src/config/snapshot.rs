//! A configuration as plain text values: what a running server tells of its own, and what two of them differ in.

use std::collections::BTreeMap;
use std::fmt;

use resay::Options;
use resay::options::{KEYS, duration_text};
use serde::{Deserialize, Serialize};

use super::settings::{Config, Entry};

/// All that a configuration says, defaults too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// By key, the keys above the tables.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) listeners: Vec<ListenerSnapshot>,
}

/// One address of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerSnapshot {
    pub(crate) name: String,
    /// As it is written, so that port 0 is the same one in every file.
    pub(crate) url: String,
    /// By key, those that mean something for the address.
    pub(crate) options: BTreeMap<String, String>,
    /// Files that say something else than when the server read them; of a file on its own none. Servers of earlier versions do not
    /// say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) renewed: Vec<String>,
}

impl Config {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let list = |paths: &[std::path::PathBuf]| {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
        };
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
        };
        let settings = [
            ("threads", self.threads.to_string()),
            ("backend", self.backend.to_string()),
            ("spin", duration_text(self.spin)),
            ("watchdog", duration_text(self.watchdog)),
            ("thread_name", self.thread_name.clone()),
            ("thread_stack", self.thread_stack.to_string()),
            ("thread_cpus", self.thread_cpus.clone()),
            ("log", self.log.name().to_owned()),
            ("drain_timeout", duration_text(self.drain_timeout)),
            ("lame_duck", duration_text(self.lame_duck)),
            ("sandbox", self.sandbox.to_string()),
            ("control", path(&self.control)),
            ("control_read", path(&self.control_read)),
            ("metrics", self.metrics.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("plugin_dirs", list(&self.plugin_dirs)),
            ("chain", self.chain.clone()),
        ];
        Snapshot {
            settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
            listeners: self.listeners.iter().map(Entry::snapshot).collect(),
        }
    }
}

impl Entry {
    pub(crate) fn snapshot(&self) -> ListenerSnapshot {
        let meant = KEYS.iter().filter(|key| self.listen.address.refuses(key.name).is_none());
        let shown = |key: &str| shown(&self.listen.options, key);
        let options = meant.filter_map(|key| Some((key.name.to_owned(), shown(key.name)?))).collect();
        let url = self.listen.address.to_string();
        ListenerSnapshot { name: self.name.clone(), url, options, renewed: Vec::new() }
    }
}

/// The text of an option. A private key that stands in the file itself is for nobody who asks what the server runs with.
pub(crate) fn shown(options: &Options, key: &str) -> Option<String> {
    let text = options.get(key)?;
    Some(if text.contains("PRIVATE KEY") { "tls:cert=(given as PEM)".to_owned() } else { text })
}

/// What the second of two configurations has otherwise. The numbers are places in the lists of listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Setting {
        key: String,
        old: String,
        new: String,
    },
    Added {
        new: usize,
    },
    Removed {
        old: usize,
    },
    /// The same socket under another name.
    Renamed {
        old: usize,
        new: usize,
    },
    Option {
        new: usize,
        key: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// The same files, which say something else.
    File {
        new: usize,
        /// Its option and its path.
        file: String,
    },
}

/// The places of the listeners that are the same in both: by name and address, and then those that were renamed.
pub(crate) fn matched(old: &Snapshot, new: &Snapshot) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for by_name in [true, false] {
        for (at, listener) in new.listeners.iter().enumerate() {
            // Two sockets whose ports the system chose are different ones.
            if pairs.iter().any(|pair| pair.1 == at) || (!by_name && listener.url.ends_with(":0")) {
                continue;
            }
            let place = old.listeners.iter().enumerate().position(|(place, known)| {
                known.url == listener.url
                    && (!by_name || known.name == listener.name)
                    && !pairs.iter().any(|pair| pair.0 == place)
            });
            pairs.extend(place.map(|place| (place, at)));
        }
    }
    pairs.sort_by_key(|pair| pair.1);
    pairs
}

/// What is different, in the order in which it is told.
pub(crate) fn changes(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut found = Vec::new();
    for (key, value) in &new.settings {
        let before = old.settings.get(key).cloned().unwrap_or_default();
        if before != *value {
            found.push(Change::Setting { key: key.clone(), old: before, new: value.clone() });
        }
    }
    let pairs = matched(old, new);
    let removed = (0..old.listeners.len()).filter(|place| !pairs.iter().any(|pair| pair.0 == *place));
    found.extend(removed.map(|old| Change::Removed { old }));
    for (place, listener) in new.listeners.iter().enumerate() {
        let before = pairs.iter().find(|pair| pair.1 == place).map(|pair| pair.0);
        let Some((index, known)) = before.and_then(|index| Some((index, old.listeners.get(index)?))) else {
            found.push(Change::Added { new: place });
            continue;
        };
        if known.name != listener.name {
            found.push(Change::Renamed { old: index, new: place });
        }
        let mut keys: Vec<_> = known.options.keys().chain(listener.options.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (from, to) = (known.options.get(key).cloned(), listener.options.get(key).cloned());
            if from != to {
                found.push(Change::Option { new: place, key: key.clone(), from, to });
            } else if key == "filter" {
                let files = known.renewed.iter();
                found.extend(files.map(|file| Change::File { new: place, file: file.clone() }));
            }
        }
    }
    found
}

/// Says what a change is, in one line that begins with `+`, `-` or `~`.
pub(crate) fn line(change: &Change, old: &Snapshot, new: &Snapshot) -> String {
    let whom = |all: &Snapshot, place: usize| {
        let listener = all.listeners.get(place);
        listener.map(|found| format!("listener {} {}", found.name, found.url)).unwrap_or_default()
    };
    match change {
        Change::Setting { key, old, new } => format!("~ {key}: {} -> {}", Shown(old), Shown(new)),
        Change::Added { new: place } => format!("+ {}", whom(new, *place)),
        Change::Removed { old: place } => {
            let is_passed = old.listeners.get(*place).is_some_and(|gone| gone.url.starts_with("systemd:"));
            let hint = if is_passed { " (only a restart of the service brings its socket back)" } else { "" };
            format!("- {}{hint}", whom(old, *place))
        }
        Change::Renamed { old: before, new: after } => {
            let name = new.listeners.get(*after).map(|found| found.name.as_str()).unwrap_or_default();
            format!("~ {}: name {name}", whom(old, *before))
        }
        Change::Option { new: place, key, from, to } => {
            let shown =
                |value: &Option<String>| value.as_deref().map_or("none".to_owned(), |v| Shown(v).to_string());
            format!("~ {}: {key} {} -> {}", whom(new, *place), shown(from), shown(to))
        }
        Change::File { new: place, file } => format!("~ {}: {file} has new content", whom(new, *place)),
    }
}

/// A value that may be empty or have blanks in it.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            write!(f, "{:?}", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}
