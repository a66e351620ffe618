//! The text that `/` looks for: rows without it are left out, so that one listener, peer or reason of many is in sight.

use std::collections::{BTreeMap, BTreeSet};

use super::figures::{Figures, ListenerFigures};
use crate::control::report::Connection;

/// Nothing, or a text that is looked for in whatever case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// As it was typed.
    text: String,
    lowercase: String,
}

impl Filter {
    pub(super) fn new(text: &str) -> Filter {
        Filter { text: text.to_owned(), lowercase: text.to_lowercase() }
    }

    /// As it was typed; empty: everything is shown.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.lowercase)
    }

    /// The listeners with the text in name or URL, and those on which a reason with it has come up; connections of these, and
    /// those with the text in the address of their peer. Totals, transforms and workers stay: they are the whole server's.
    pub(super) fn apply(&self, figures: &Figures) -> Figures {
        let mut shown = figures.clone();
        if self.text.is_empty() {
            return shown;
        }
        shown.listeners.retain(|listener| self.has_listener(listener));
        let urls: BTreeSet<_> = shown.listeners.iter().map(|listener| &listener.url).collect();
        shown.connections.retain(|connection| {
            urls.contains(&connection.listener)
                || self.is_in(&connection.listener)
                || self.has_peer(connection)
        });
        shown
    }

    fn has_listener(&self, listener: &ListenerFigures) -> bool {
        let counts = &listener.counted.counts;
        let has_reason = |counts: &BTreeMap<String, u64>| {
            counts.iter().any(|(reason, count)| *count > 0 && self.is_in(reason))
        };
        self.is_in(&listener.url)
            || listener.name.as_ref().is_some_and(|name| self.is_in(name))
            || [&counts.dropped_by, &counts.closed_by, &counts.rejected_by].into_iter().any(has_reason)
    }

    fn has_peer(&self, connection: &Connection) -> bool {
        self.is_in(&connection.peer) || connection.via.as_ref().is_some_and(|via| self.is_in(via))
    }

    /// Of the rows of reasons those with the text. Where none has it, it is a listener's or a peer's, and all are of interest.
    pub(super) fn reasons<const N: usize>(&self, rows: Vec<[String; N]>) -> Vec<[String; N]> {
        let has_text = |row: &[String; N]| row.first().is_some_and(|reason| self.is_in(reason));
        if !rows.iter().any(has_text) {
            return rows;
        }
        rows.into_iter().filter(has_text).collect()
    }
}
