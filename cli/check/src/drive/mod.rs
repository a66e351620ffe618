//! Calls a transform by the rules of the header, in memory that shows every step too far, and holds what comes
//! back against the rules. A rule that is broken is a [`Breach`].
//!
//! `instance` creates and opens, `session` makes the calls, `carry` saves and loads sessions, `lent` is the memory.

mod carry;
mod instance;
mod lent;
mod session;

use crate::child::Request;
use crate::host::Shape;
use crate::plan::Mode;
use crate::promise::Promise;
use crate::table::{Loaded, Pairs, Table};
use crate::words::status_text;
use resay_plugin::abi;

pub(crate) use carry::{Load, Save, load, save};
pub(crate) use instance::{Instance, Refusal};
pub(crate) use lent::Desk;
pub(crate) use session::Session;

/// A broken promise, and how it was broken.
#[derive(Debug, Clone)]
pub(crate) struct Breach {
    pub(crate) promise: Promise,
    pub(crate) what: String,
    pub(crate) details: Vec<(String, String)>,
}

impl Breach {
    pub(crate) fn of(promise: Promise, what: String) -> Breach {
        Breach { promise, what, details: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: String) -> Breach {
        self.details.push((name.to_owned(), value));
        self
    }
}

pub(crate) type Kept<T> = Result<T, Breach>;

/// Room for an error's text.
const ERROR_BYTES: usize = 512;

/// The transform that is looked at, and its options.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) table: Table,
    pub(crate) pairs: Pairs,
    /// How messages may reach it: at least one way.
    pub(crate) modes: Vec<Mode>,
}

impl Subject {
    pub(crate) fn new(loaded: &Loaded, request: &Request) -> Kept<Subject> {
        let listed = loaded.table(&request.transform)?;
        for (key, _) in &request.options {
            if !listed.options.iter().any(|option| option.key == *key) {
                return Err(Breach::of(Promise::Options, format!("there is no option '{key}'")));
            }
        }
        let pairs = Pairs::new(request.options.iter().map(|(key, value)| (key.as_str(), value.as_bytes())));
        let table = listed.select(&pairs.raw())?;
        let mut subject = Subject { table, pairs, modes: Vec::new() };
        subject.modes = subject.ask_modes(&mut Desk::new(request.seed))?;
        Ok(subject)
    }

    /// Those whose peers session_open() does not refuse.
    fn ask_modes(&self, desk: &mut Desk) -> Kept<Vec<Mode>> {
        let instance = self.create()?;
        let (mut modes, mut reason) = (Vec::new(), String::new());
        for mode in Mode::of(&self.table) {
            match instance.session_with(desk, mode.kind(), true)? {
                Ok(_) => modes.push(*mode),
                Err(refusal) => reason = format!("{}: {}", status_text(refusal.status), refusal.text),
            }
        }
        if modes.is_empty() {
            let what = format!("session_open() refuses streams and datagrams ({reason})");
            return Err(Breach::of(Promise::Creates, what));
        }
        Ok(modes)
    }

    pub(crate) fn serves(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }

    pub(crate) fn create(&self) -> Kept<Instance<'_>> {
        self.create_in(Shape::Now)
    }

    pub(crate) fn create_in(&self, shape: Shape) -> Kept<Instance<'_>> {
        match Instance::create(&self.table, &self.pairs, shape, Some(ERROR_BYTES))? {
            Ok(instance) => Ok(instance),
            Err(Refusal { status, text }) => {
                let what = format!("create() answered {}: {text}", status_text(status));
                Err(Breach::of(Promise::Creates, what))
            }
        }
    }
}

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) room: Room,
    pub(crate) place: Place,
    /// Output over input.
    pub(crate) alias: bool,
    /// map() is lent memory that cannot be written.
    pub(crate) read_only: bool,
}

impl Default for How {
    fn default() -> Self {
        How { room: Room::Huge, place: Place::End, alias: false, read_only: false }
    }
}

/// How much room for output there is, never less than the declared bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The bound, or a single byte.
    Tight,
    Exact(usize),
    Huge,
    Random,
}

/// Where in memory the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Right before forbidden pages.
    End,
    /// So many bytes behind an address that is aligned to 64, between canaries.
    At(usize),
    /// Right behind forbidden pages.
    Start,
}

/// What a transform did with what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// What is sent.
    pub(crate) output: Vec<u8>,
    /// How it ended. `None`: at the limits of this host.
    pub(crate) status: Option<abi::resay_status>,
}

/// A failure is one of the known errors.
pub(crate) fn expect_error(status: abi::resay_status, call: &str) -> Kept<()> {
    let known = abi::RESAY_E_PANIC..=abi::RESAY_E_DATA;
    if status == abi::RESAY_E_PANIC {
        return Err(Breach::of(Promise::NoPanic, format!("{call} answered RESAY_E_PANIC")));
    }
    if known.contains(&status) {
        return Ok(());
    }
    Err(Breach::of(Promise::Statuses, format!("{call} answered {}", status_text(status))))
}
