//! Where the connections of an engine are, for a host that names one. It is made with the first call that needs it, and
//! kept from then on: an engine whose host names no connection pays nothing for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::connection::Account;
use crate::driver::Token;
use crate::listener::Listener;
use crate::lock::lock;

/// A directory that has shrunk to a quarter gives memory back, from so many places on.
const SHRINKS_FROM: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    is_kept: AtomicBool,
    /// Every worker has entered what it had.
    is_complete: AtomicBool,
    places: Mutex<HashMap<u64, Place>>,
}

/// Where a connection is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) token: Token,
    pub(crate) listener: Arc<Listener>,
    /// Of what the host has sent it, once it has.
    account: Option<Arc<Account>>,
    /// Nothing that the host sends would reach its peer any more.
    is_ending: bool,
}

impl Directory {
    /// `is_kept`: from the first connection on.
    pub(crate) fn new(is_kept: bool) -> Directory {
        let directory = Directory::default();
        if is_kept {
            directory.keep();
            directory.set_complete();
        }
        directory
    }

    /// From now on workers enter their connections; those that they have already they are to be asked for.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }

    /// Every worker has entered what it had.
    pub(crate) fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Whether workers enter their connections.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    pub(super) fn enter(&self, id: u64, worker: usize, token: Token, listener: &Arc<Listener>) {
        let place = Place { worker, token, listener: Arc::clone(listener), account: None, is_ending: false };
        lock(&self.places).entry(id).or_insert(place);
    }

    pub(super) fn remove(&self, id: u64) {
        let mut places = lock(&self.places);
        let removed = places.remove(&id);
        if places.capacity() > SHRINKS_FROM && places.len() < places.capacity() / 4 {
            places.shrink_to(SHRINKS_FROM);
        }
        drop(places);
        // It may be the last to know of the listener.
        drop(removed);
    }

    /// Our side of a connection has ended.
    pub(super) fn note_end(&self, id: u64) {
        if let Some(place) = lock(&self.places).get_mut(&id) {
            place.end();
        }
    }

    /// Looks at a connection's place, if there is one.
    pub(crate) fn find<R>(&self, id: u64, look: impl FnOnce(&mut Place) -> R) -> Option<R> {
        lock(&self.places).get_mut(&id).map(look)
    }

    /// The connections of a listener, or all, in the order in which they came.
    pub(crate) fn ids(&self, listener: Option<u64>) -> Vec<u64> {
        let places = lock(&self.places);
        let is_of = |place: &Place| listener.is_none_or(|listener| place.listener.id == listener);
        let mut ids: Vec<u64> = places.iter().filter(|(_, place)| is_of(place)).map(|(id, _)| *id).collect();
        drop(places);
        ids.sort_unstable();
        ids
    }
}

impl Place {
    /// It is to end, or our side has ended.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Of what the host sends it.
    pub(crate) fn account(&mut self) -> &Arc<Account> {
        let most = self.listener.limits.high_water_bytes;
        self.account.get_or_insert_with(|| Account::new(most))
    }
}
