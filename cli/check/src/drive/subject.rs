//! The transform under test with its options.

use super::buffers::{Arena, ERROR_BYTES};
use super::instance::{Instance, Refusal};
use crate::host::HostVersion;
use crate::mode::Mode;
use crate::promise::Promise;
use crate::request::Request;
use crate::table::{Loaded, Pairs, Table};
use crate::verdict::{Check, Violation};
use crate::words::status_text;

/// The transform under test, and its options.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) table: Table,
    pub(crate) pairs: Pairs,
    /// How messages may reach it: at least one.
    pub(crate) modes: Vec<Mode>,
}

impl Subject {
    pub(crate) fn new(loaded: &Loaded, request: &Request) -> Check<Subject> {
        loaded.begin()?;
        let listed = loaded.table(&request.transform)?;
        for (key, _) in &request.options {
            if !listed.options.iter().any(|option| option.key == *key) {
                return Err(Violation::of(Promise::Options, format!("there is no option '{key}'")));
            }
        }
        let pairs = Pairs::new(request.options.iter().map(|(key, value)| (key.as_str(), value.as_bytes())));
        let table = listed.select(&pairs.raw())?;
        let mut subject = Subject { table, pairs, modes: Vec::new() };
        subject.modes = subject.ask_modes(&mut Arena::new(request.seed))?;
        Ok(subject)
    }

    /// The modes whose peers session_open() does not refuse.
    fn ask_modes(&self, arena: &mut Arena) -> Check<Vec<Mode>> {
        let instance = self.create()?;
        let (mut modes, mut reason) = (Vec::new(), String::new());
        for mode in Mode::of(&self.table) {
            match instance.session_with(arena, mode.kind(), true)? {
                Ok(_) => modes.push(*mode),
                Err(refusal) => reason = format!("{}: {}", status_text(refusal.status), refusal.text),
            }
        }
        if modes.is_empty() {
            let what = format!("session_open() refuses streams and datagrams ({reason})");
            return Err(Violation::of(Promise::Creates, what));
        }
        Ok(modes)
    }

    pub(crate) fn serves(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }

    pub(crate) fn create(&self) -> Check<Instance<'_>> {
        self.create_in(HostVersion::Now)
    }

    pub(crate) fn create_in(&self, shape: HostVersion) -> Check<Instance<'_>> {
        match Instance::create(&self.table, &self.pairs, shape, Some(ERROR_BYTES))? {
            Ok(instance) => Ok(instance),
            Err(Refusal { status, text }) => {
                let what = format!("create() returned {}: {text}", status_text(status));
                Err(Violation::of(Promise::Creates, what))
            }
        }
    }
}
