//! `resay config`: what can be said of configuration files without a server.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::read::{NAME_BYTES_MAX, check as check_file, read};
use super::schema;
use super::snapshot::Snapshot;
use crate::exit::{Exit, Failure};
use crate::output;

/// Describe, check and show configuration files
///
/// `resay serve --config FILE` reads them. The keys are the options of `resay serve` and of its listeners.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the JSON Schema of configuration files, for editors
    Schema,
    /// Print a file with every key, its meaning and its default
    Example,
    /// Say what is wrong with a file: with line, column and the nearest name for an unknown key
    Check {
        /// The configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print what a file comes to: all values, with defaults and variables put in
    Show {
        /// The configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  resay config example > resay.toml
  resay config check resay.toml
  resay config show resay.toml
  resay config schema > resay.schema.json";

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let text = match &arguments.command {
        Command::Schema => output::json(&schema::schema())? + "\n",
        Command::Example => schema::example(),
        Command::Check { file } => return check(file),
        Command::Show { file, json } => {
            let snapshot = read(file)?.snapshot();
            if *json { output::json(&snapshot)? + "\n" } else { shown(&snapshot) }
        }
    };
    output::print(text).map(|()| Exit::Done)
}

/// Reads a file, finds its plugins and tries its chains; no socket is opened.
pub(crate) fn check(file: &Path) -> Result<Exit, Failure> {
    check_file(file)?;
    output::print(format!("{}: good\n", file.display())).map(|()| Exit::Done)
}

/// As a file that says the same, for each address on its own.
fn shown(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for (key, value) in &snapshot.settings {
        match key.as_str() {
            "control" | "control_read" | "metrics" if value.is_empty() => {}
            "plugin_dirs" => {
                let paths: Vec<_> = value.split(':').filter(|path| !path.is_empty()).map(quoted).collect();
                let _ = writeln!(text, "plugin_dirs = [{}]", paths.join(", "));
            }
            _ => _ = writeln!(text, "{key} = {}", quoted(value)),
        }
    }
    let mut names: Vec<String> = snapshot.listeners.iter().map(|listener| listener.name.clone()).collect();
    let mut last = "";
    for listener in &snapshot.listeners {
        // One table for each address: the second and later ones need names of their own.
        let name = if listener.name == last { another(&mut names, last) } else { listener.name.clone() };
        last = &listener.name;
        let _ =
            writeln!(text, "\n[[listener]]\nname = {}\nlisten = {}", quoted(&name), quoted(&listener.url));
        for (key, value) in &listener.options {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
    }
    text
}

/// A name like this one that no other listener has.
fn another(names: &mut Vec<String>, like: &str) -> String {
    let candidates = (2_u64..).map(|number| {
        let end = format!(".{number}");
        let kept = like.len().min(NAME_BYTES_MAX - end.len());
        like.get(..kept).unwrap_or_default().to_owned() + &end
    });
    let mut unused = candidates.filter(|name| !names.contains(name));
    let name = unused.next().unwrap_or_default();
    names.push(name.clone());
    name
}

/// A basic string of TOML.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            // A variable no more.
            '$' => text.push_str("$$"),
            letter if letter.is_control() => _ = write!(text, "\\u{:04x}", u32::from(letter)),
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}

/// Any bytes as a file: what is wrong is told, and what is good is shown as a file that says the same.
#[cfg(any(test, fuzzing))]
#[allow(clippy::panic, reason = "a target of a fuzzer panics where something is wrong")]
pub(crate) fn try_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("file");
    let snapshot = match super::read::parse(path, text) {
        Ok(config) => config.snapshot(),
        Err(failure) => return assert!(!failure.text().is_empty(), "{text}"),
    };
    let again = shown(&snapshot);
    let again = match super::read::parse(path, &again) {
        Ok(config) => config.snapshot(),
        Err(failure) => panic!("{again}\n{}", failure.text()),
    };
    assert_eq!(again.settings, snapshot.settings, "{text}");
    let places = |snapshot: &Snapshot| {
        let listeners = snapshot.listeners.iter();
        listeners.map(|listener| (listener.url.clone(), listener.options.clone())).collect::<Vec<_>>()
    };
    assert_eq!(places(&again), places(&snapshot), "{text}");
}
