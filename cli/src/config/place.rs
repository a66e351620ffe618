//! Places in a file, and what is wrong there.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use resay::net::address::Pair;

use crate::exit::{Exit, Failure};

/// Faults that are shown; more of them are seldom of use.
const FAULTS_MAX: usize = 20;

/// The file, and what was found wrong in it so far.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    faults: RefCell<Vec<(usize, String, Exit)>>,
}

/// A file that was read, for what is found wrong later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where the values above the tables stand.
#[derive(Debug, Default)]
pub(crate) struct TopMarks {
    pub(super) chain: Option<Text>,
    pub(super) plugin_dirs: Vec<Text>,
}

/// Where the values of one address stand.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(super) url: Text,
    /// What its query says.
    pub(super) pairs: Vec<Pair>,
    pub(super) chain: Option<Text>,
    pub(super) filter: Option<Text>,
    pub(super) tls: Vec<TlsMark>,
}

/// One value of a key of `tls`.
#[derive(Debug, Clone)]
pub(super) struct TlsMark {
    pub(super) key: String,
    pub(super) key_at: usize,
    pub(super) value: Text,
}

impl Marks {
    /// Where its filter is told, as a whole.
    pub(super) fn filter_at(&self) -> usize {
        let in_table = self.tls.first().map(|mark| mark.key_at);
        in_table.or_else(|| self.filter.as_ref().map(Text::start)).unwrap_or(self.url.start())
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Source<'a> {
        Source { path, text, faults: RefCell::default() }
    }

    /// Notes a fault at a byte of the file.
    pub(super) fn fault(&self, at: usize, message: impl Into<String>) {
        self.fault_of(at, message, Exit::Usage);
    }

    /// Notes one that ends the command in its own way, if there are no others.
    pub(super) fn fault_of(&self, at: usize, message: impl Into<String>, exit: Exit) {
        self.faults.borrow_mut().push((at, message.into(), exit));
    }

    pub(super) fn has_faults(&self) -> bool {
        !self.faults.borrow().is_empty()
    }

    /// All faults, in the order of the file.
    pub(super) fn failure(&self) -> Failure {
        let mut faults = self.faults.borrow_mut();
        faults.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        // Of several addresses of one listener each may have it.
        faults.dedup();
        let is_usage = faults.iter().any(|(.., exit)| *exit == Exit::Usage);
        let exit = faults.first().filter(|_| !is_usage).map_or(Exit::Usage, |(.., exit)| *exit);
        let more = faults.len().saturating_sub(FAULTS_MAX);
        let mut texts: Vec<_> =
            faults.iter().take(FAULTS_MAX).map(|(at, message, _)| self.shown(*at, message)).collect();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        Failure::new(exit, texts.join("\n"))
    }

    /// The number of a line.
    pub(super) fn number(&self, at: usize) -> usize {
        self.position(at).0
    }

    fn position(&self, at: usize) -> (usize, usize, &'a str) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = self.text.split_at(at);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let end = after.find('\n').map_or(self.text.len(), |end| at + end);
        let line = self.text.get(start..end).unwrap_or_default().trim_end_matches('\r');
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column, line)
    }

    fn shown(&self, at: usize, message: &str) -> String {
        let (number, column, line) = self.position(at);
        let head = format!("{}:{number}:{column}: {message}", self.path.display());
        // A caret below a tab or an escape sequence would point elsewhere; the head has the column.
        if line.is_empty() || line.contains(char::is_control) {
            return head;
        }
        format!("{head}\n  {line}\n  {:>column$}", '^')
    }
}

/// A value as the text that would be typed on the command line.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: String,
    /// Where it stands.
    span: Range<usize>,
    /// Its letters stand there as they are: no escapes, no variables.
    is_verbatim: bool,
}

impl Text {
    pub(super) fn new(source: &Source<'_>, text: String, span: Range<usize>) -> Text {
        let raw = source.text.get(span.clone()).unwrap_or_default();
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        Text { is_verbatim: inner == text || raw == text, text, span }
    }

    /// The place in the file of its byte `at`.
    pub(super) fn at(&self, at: usize) -> usize {
        if !self.is_verbatim {
            return self.span.start;
        }
        let quote = usize::from(self.span.len() != self.text.len());
        self.span.start + quote + at.min(self.text.len())
    }

    pub(super) fn start(&self) -> usize {
        self.span.start
    }
}
