//! What can go wrong, in words that name what and where.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use resay_plugin::file::plain;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure that the engine reports to its owner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address, chain or option that cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The operating system refused; `what` names the call and its object.
    #[error("{what}: {}", plain(source))]
    System {
        /// What was attempted, for example `bind tcp://127.0.0.1:80`.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A plugin file that cannot be used.
    #[error("plugin {}: {reason}", path.display())]
    Plugin {
        /// The file as it was named.
        path: PathBuf,
        /// Which promise it breaks.
        reason: String,
    },
    /// No transform has this name.
    #[error("unknown transform {}{hint}", Quoted(id))]
    UnknownTransform {
        /// The name.
        id: String,
        /// What was probably meant, or what there is.
        hint: String,
        /// Where it is named.
        place: Option<Place>,
    },
    /// A transform that refused to be created.
    #[error("transform {id}: {reason}")]
    Transform {
        /// The transform's id.
        id: String,
        /// Its own message, or what the engine found.
        reason: String,
        /// The option that it is about, if it is about one, or else the transform, in the chain; `None`: not of a chain that was read.
        place: Option<Place>,
    },
    /// A filter that cannot be found, or refused to be created.
    #[error("filter {id}: {reason}")]
    Filter {
        /// The filter's id.
        id: String,
        /// Its own message, or what the engine found.
        reason: String,
    },
    /// The call does not fit the state that the engine is in.
    #[error("{0}")]
    State(&'static str),
    /// An unknown or closed id.
    #[error("unknown or closed {0}")]
    Handle(&'static str),
    /// A limit is reached, or exceeded: nothing was done.
    #[error("{0}")]
    Full(&'static str),
    /// Timed out.
    #[error("{what}: timed out after {}", duration_words(*limit))]
    Timeout {
        /// The operation.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
}

impl Error {
    /// A system error with its context; for `map_err`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::System { what, source }
    }

    /// Which bytes of the text that was read are wrong, where it is known: the first one's offset, and how many. The offset is
    /// the text's length where something is missing at its end.
    pub fn place(&self) -> Option<(usize, usize)> {
        match self {
            Error::Spec(error) => Some((error.at, error.length())),
            Error::UnknownTransform { place, .. } | Error::Transform { place, .. } => {
                place.as_ref().map(|place| (place.at, place.length))
            }
            _ => None,
        }
    }

    /// Two lines for a terminal, where the place is known: the text that was read, and a caret below the fault.
    pub fn pointer(&self) -> Option<String> {
        match self {
            Error::Spec(error) => Some(error.pointer()),
            Error::UnknownTransform { place, .. } | Error::Transform { place, .. } => place
                .as_ref()
                .filter(|place| !place.text.is_empty())
                .map(|place| pointer(&place.text, place.at)),
            _ => None,
        }
    }

    /// The same with another place, if it has one.
    pub(crate) fn with_place(mut self, change: impl FnOnce(&mut Place)) -> Error {
        if let Error::UnknownTransform { place: Some(place), .. }
        | Error::Transform { place: Some(place), .. } = &mut self
        {
            change(place);
        }
        self
    }

    /// The same, once the text is known that its place is in.
    pub(crate) fn in_text(self, text: &str) -> Error {
        self.with_place(|place| text.clone_into(&mut place.text))
    }

    /// The `errno` behind this error, where there is one.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Error::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Which bytes of a text an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text as it was given: a chain, or the URL that it stands in.
    pub text: String,
    /// The offset, in bytes, of the first one.
    pub at: usize,
    /// How many.
    pub length: usize,
}

impl Place {
    /// In a text that is not known yet.
    pub(crate) fn new(at: usize, length: usize) -> Place {
        Place { text: String::new(), at, length }
    }
}

/// Text in quotation marks, with bytes that show nothing as `\x1b`.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                letter if letter.is_control() => {
                    let mut bytes = [0; 4];
                    letter.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                }
                letter => write!(f, "{letter}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A time as people write it.
fn duration_words(time: Duration) -> String {
    if time.is_zero() { "0 s".to_owned() } else { format!("{time:?}") }
}

fn column(text: &str, at: usize) -> usize {
    text.char_indices().take_while(|(offset, _)| *offset < at).count() + 1
}

fn pointer(text: &str, at: usize) -> String {
    format!("  {text}\n  {:>width$}", '^', width = column(text, at))
}

/// Text that does not follow its grammar, and the place where it stops doing so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// What the text was meant to be: `address`, `chain`, `option`.
    pub subject: &'static str,
    /// The text as it was given.
    pub text: String,
    /// The offset, in bytes, of the first character that is wrong (`text.len()`: something is missing at the end).
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl SpecError {
    /// An error at byte `at` of `text`.
    pub fn new(subject: &'static str, text: &str, at: usize, message: impl Into<String>) -> Self {
        SpecError { subject, text: text.to_owned(), at: at.min(text.len()), message: message.into() }
    }

    /// How many bytes from `at` on belong to what is wrong: a word, or one character; at the text's end 1.
    pub fn length(&self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
        match rest.find(|letter| !is_word(letter)) {
            None => rest.len().max(1),
            Some(0) => rest.chars().next().map_or(1, char::len_utf8),
            Some(end) => end,
        }
    }

    /// The character (not byte) position of the fault, counted from 1.
    pub fn column(&self) -> usize {
        column(&self.text, self.at)
    }

    /// Two lines for a terminal: the text, and a caret below the fault.
    pub fn pointer(&self) -> String {
        pointer(&self.text, self.at)
    }
}

/// What is wrong comes first: the text may be long.
impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {}, character {})", self.message, self.subject, Quoted(&self.text), self.column())
    }
}

impl std::error::Error for SpecError {}
