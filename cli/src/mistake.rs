//! What clap says about a command line that it cannot read, made more helpful: clap knows the arguments of a command, but
//! neither the options of listeners nor what a number is for.

use std::error::Error as _;
use std::num::{IntErrorKind, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use resay::options::{Key, nearest};

/// Options of `tls://` and `unix+tls:` alone.
pub(crate) const TLS_OPTIONS: [(&str, &str); 7] = [
    ("cert", "FILE: the certificate and those above it, in PEM"),
    ("key", "FILE: its private key, not encrypted"),
    ("client_ca", "FILE: certificates that those of clients are checked against"),
    ("client", "none|ask|require: whether clients need a certificate"),
    ("alpn", "NAME,...: protocols that are offered"),
    ("min", "1.2|1.3: the oldest version"),
    ("tickets", "COUNT: tickets for a shorter next handshake; 0: none"),
];

/// The error with the remedy; `words` are those of the command line behind the program's name, `root` the whole command.
pub(crate) fn explain(mut error: Error, root: &Command, words: &[String]) -> Error {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let tip = text_of(&error, ContextKind::InvalidArg).and_then(|flag| listener_tip(&flag, words));
            if let Some(tip) = tip {
                // What clap takes it for is something else.
                error.remove(ContextKind::SuggestedArg);
                error.remove(ContextKind::Usage);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        }
        ErrorKind::InvalidSubcommand => {
            if error.get(ContextKind::SuggestedSubcommand).is_none()
                && let Some(name) = text_of(&error, ContextKind::InvalidSubcommand)
                && let Some(meant) = meant_below(root, words, &name)
            {
                error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant]));
            }
            error
        }
        ErrorKind::ValueValidation => {
            let number = error.source().and_then(|source| source.downcast_ref::<ParseIntError>());
            let Some(why) = number.map(|number| number_fault(number.kind())) else { return error };
            let value = text_of(&error, ContextKind::InvalidValue).unwrap_or_default();
            let argument = text_of(&error, ContextKind::InvalidArg).unwrap_or_default();
            let text = format!("invalid value '{value}' for '{argument}': {why}");
            Error::raw(ErrorKind::ValueValidation, text).with_cmd(root)
        }
        _ => error,
    }
}

fn text_of(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// Where an option of listeners goes, if the flag is one.
fn listener_tip(flag: &str, words: &[String]) -> Option<String> {
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let is_tls = TLS_OPTIONS.iter().any(|(key, _)| *key == name);
    let value = Key::find(&name).map(|key| example(key.value));
    if !is_tls && value.is_none() {
        return None;
    }
    let value = value.unwrap_or("...");
    Some(match words.first().map(String::as_str)? {
        "serve" if is_tls => {
            format!("'{name}' is an option of TLS listeners: 'tls://HOST:PORT?{name}={value}'")
        }
        "serve" if name == "chain" => {
            "'chain' is an option of listeners: 'URL?chain=CHAIN'; that of all is --transform CHAIN"
                .to_owned()
        }
        "serve" => {
            format!(
                "'{name}' is an option of listeners: 'URL?{name}={value}', or of all: --set {name}={value}"
            )
        }
        "repl" if name == "frame" => {
            "'frame' is an option of the server's listeners; --newline talks to one with frame=lines"
                .to_owned()
        }
        "send" | "repl" | "bench" => {
            format!("'{name}' is an option of the server's listeners: resay serve 'URL?{name}={value}'")
        }
        "ctl" => format!("'{name}' is an option of listeners: resay ctl SOCKET set LISTENER {name} {value}"),
        _ => return None,
    })
}

/// A word of the form that can be typed, or what it stands for.
fn example(form: &'static str) -> &'static str {
    match form.split('|').find(|word| word.starts_with(char::is_uppercase)).unwrap_or("...") {
        "FRAME" => "lines",
        "DURATION" => "30s",
        word => word,
    }
}

/// Of `resay help NAME`, where clap suggests nothing; words of the path stand before the one that is unknown.
fn meant_below(root: &Command, words: &[String], name: &str) -> Option<String> {
    let mut command = root;
    for word in words.iter().filter(|word| *word != "help").take_while(|word| *word != name) {
        command = command.find_subcommand(word)?;
    }
    let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    nearest(name, names.iter().copied()).map(str::to_owned)
}

fn number_fault(kind: &IntErrorKind) -> &'static str {
    match kind {
        IntErrorKind::PosOverflow => "the number is too large",
        IntErrorKind::NegOverflow => "the number is too small",
        _ => "a whole number is expected, with digits only",
    }
}
