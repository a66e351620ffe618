//! Many changes at once: all of them, or none.

use std::sync::Arc;

use super::listeners::{ListenerId, check_needs, find_listener};
use super::state::{Control, Core, Engine};
use crate::chain::{Chain, Generation};
use crate::error::{Error, Result};
use crate::event::{EventKind, LogLevel};
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::address::Listen;
use crate::options::Options;
use crate::transform::spec::ChainSpec;
use crate::worker::Command;

/// What the listeners of an engine are to be.
#[derive(Debug, Clone, Default)]
pub struct Reconfiguration {
    /// The engine's chain, for all listeners that have none of their own.
    pub chain: String,
    /// Listeners to open.
    pub open: Vec<Listen>,
    /// Listeners that stay, with what their options are to be; without `chain` they have the engine's.
    pub keep: Vec<(ListenerId, Options)>,
    /// Listeners to close; their connections go on.
    pub close: Vec<ListenerId>,
}

type Made = (Arc<Chain>, Vec<Arc<Generation>>);

/// What becomes of one listener.
struct Planned {
    old: Arc<Listener>,
    /// With other options.
    revised: Option<Arc<Listener>>,
    chain: Made,
}

impl Core {
    /// Puts another edition of a listener in the place of the one that there is.
    fn revise(&self, control: &mut Control, revised: &Arc<Listener>) {
        if let Some(place) = control.listeners.iter_mut().find(|known| known.id == revised.id) {
            *place = Arc::clone(revised);
        }
        for mailbox in &self.shared.mailboxes {
            // One that has ended serves nobody.
            let _ = mailbox.push(Command::Revise { listener: Arc::clone(revised) });
        }
    }
}

impl Engine {
    /// Opens, changes and closes listeners while the engine serves: all that can fail comes first, chains and sockets too, and
    /// after a failure nothing has changed. Answers the names of what was opened, for each of `open`.
    ///
    /// A listener that is to be opened at an address of one that is to be closed, written otherwise or under TLS, takes over its
    /// socket; one with port 0 gets a port of its own. What is as it is to be stays untouched. A changed chain is swapped as by [`set_chain_of`](Engine::set_chain_of), for
    /// the connections that are there too; other options hold for connections that come from then on, and of datagrams at
    /// once. Connections that began under another `frame` or `max_message` keep their chain as well. Options that are
    /// settled when a socket is bound ([`Key::is_settled`](crate::options::Key::is_settled)) cannot change: then it fails.
    pub fn reconfigure(&self, wanted: &Reconfiguration) -> Result<Vec<Vec<ListenerId>>> {
        self.check_served()?;
        let core = self.core.get().ok_or(Error::State("the engine does not serve yet"))?;
        let engine_chain = Arc::clone(&lock(&self.control).chain);
        let of_engine = self.made(&wanted.chain, Some(&engine_chain))?;
        let mut own = Vec::with_capacity(wanted.keep.len());
        for (id, options) in &wanted.keep {
            let current = self.find(*id)?.chain();
            // The engine's chain is not its own, even if it says the same.
            let is_own = !Arc::ptr_eq(&current, &engine_chain);
            own.push(match &options.chain {
                Some(text) => Some((self.made(text, is_own.then_some(&current))?, current)),
                None => None,
            });
        }
        wanted.close.iter().try_for_each(|id| self.find(*id).map(drop))?;
        // Filters read their files again: certificates may have been renewed.
        let filters: Vec<_> =
            wanted.keep.iter().map(|(_, options)| self.own_filter(options)).collect::<Result<_>>()?;
        // One that is to be closed may be bound to an address of one that is to be opened, written otherwise: it is the same socket,
        // and whoever waits there stays.
        let mut copies = if wanted.open.is_empty() { Vec::new() } else { self.copies_of(&wanted.close) };
        let mut kept: Vec<_> = copies.iter().map(|handed| handed.url.clone()).collect();
        let (opened, counts) = self.bind_all(&wanted.open, &mut copies, false)?;
        kept.retain(|url| !copies.iter().any(|left| left.url == *url));
        // The others are to be closed for good.
        drop(copies);

        let mut control = lock(&self.control);
        let engine_chain = match of_engine {
            Some(made) => made,
            None if control.engine_chain.is_empty() => {
                let chain = Arc::clone(&control.chain);
                let generations = chain.generations(core.workers.len())?;
                (chain, generations)
            }
            None => (Arc::clone(&control.chain), control.engine_chain.clone()),
        };
        let mut planned = Vec::with_capacity(wanted.keep.len());
        for (((id, options), own), filter) in wanted.keep.iter().zip(own).zip(filters) {
            let old = find_listener(&control, *id)?;
            let chain = match own {
                None => engine_chain.clone(),
                Some((Some(made), _)) => made,
                Some((None, current)) if Arc::ptr_eq(&current, &old.chain()) => (current, old.generations()),
                Some((None, _)) => return Err(Error::State("a chain was changed meanwhile: try again")),
            };
            let mut options = options.clone();
            options.chain.clone_from(&old.options.chain);
            let is_same = options == old.options && filter.is_none();
            let revised = if is_same { None } else { Some(Arc::new(old.revised(&options, filter)?)) };
            check_needs(revised.as_ref().unwrap_or(&old), &chain.0)?;
            planned.push(Planned { old, revised, chain });
        }
        for listener in &control.listeners {
            let is_named = |id: u64| {
                wanted.keep.iter().any(|(kept, _)| kept.0 == id)
                    || wanted.close.iter().any(|closed| closed.0 == id)
            };
            if Arc::ptr_eq(&listener.chain(), &control.chain) && !is_named(listener.id) {
                check_needs(listener, &engine_chain.0)?;
                let (old, chain) = (Arc::clone(listener), engine_chain.clone());
                planned.push(Planned { old, revised: None, chain });
            }
        }
        // New listeners without a chain of their own get the new one.
        let (chain, generations) = engine_chain;
        let old_chain = std::mem::replace(&mut control.chain, chain);
        let old_generations = std::mem::replace(&mut control.engine_chain, generations);
        let ids = match self.serve(&mut control, opened) {
            Ok(ids) => ids,
            Err(error) => {
                let chain = std::mem::replace(&mut control.chain, old_chain);
                let generations = std::mem::replace(&mut control.engine_chain, old_generations);
                drop(control);
                drop((chain, generations, planned));
                return Err(error);
            }
        };
        let mut old = Vec::new();
        for Planned { old: listener, revised, chain: (chain, generations) } in planned {
            let current = revised.unwrap_or_else(|| Arc::clone(&listener));
            if !Arc::ptr_eq(&current.chain(), &chain) {
                let text = format_args!("chain {:?}", chain.spec());
                self.services.events.emit_about(LogLevel::Info, EventKind::ChainChanged, &*current, text);
                old.push(current.set_chain(chain, generations));
            }
            if !Arc::ptr_eq(&current, &listener) {
                core.revise(&mut control, &current);
            }
        }
        core.shared.announce_change();
        drop(control);
        drop((old, old_chain, old_generations));
        for id in &wanted.close {
            if let Ok(listener) = self.find(*id)
                && kept.contains(&listener.url)
            {
                listener.leave();
            }
            // One that cannot be closed within the time is closed later; the rest is done.
            let _ = self.close_listener(*id);
        }
        if !kept.is_empty() {
            // The files of unix sockets are with those now that have the sockets.
            self.complete_handover();
        }
        let mut ids = ids.into_iter();
        Ok(counts.into_iter().map(|count| ids.by_ref().take(count).collect()).collect())
    }

    /// Changes one option of a listener while the engine serves, for those that come from then on: see
    /// [`reconfigure`](Engine::reconfigure), which changes several. `value` is a text as in a URL's query. For `chain` there is
    /// [`set_chain_of`](Engine::set_chain_of).
    pub fn set_listener_option(&self, id: ListenerId, key: &str, value: &str) -> Result<()> {
        self.check_served()?;
        let core = self.core.get().ok_or(Error::State("the engine does not serve yet"))?;
        let mut control = lock(&self.control);
        let old = find_listener(&control, id)?;
        let mut options = old.options.clone();
        options.set_pair(&format!("{key}={value}"))?;
        options.chain.clone_from(&old.options.chain);
        if options == old.options {
            return Ok(());
        }
        let filter = self.own_filter(&options)?;
        let revised = Arc::new(old.revised(&options, filter)?);
        check_needs(&revised, &revised.chain())?;
        core.revise(&mut control, &revised);
        core.shared.announce_change();
        Ok(())
    }

    /// A new chain; `None`: `current` is it.
    fn made(&self, text: &str, current: Option<&Arc<Chain>>) -> Result<Option<Made>> {
        let spec = ChainSpec::parse(text)?;
        if current.is_some_and(|current| spec.to_string() == current.spec()) {
            return Ok(None);
        }
        let chain = self.create_chain(&spec, text)?;
        let generations = self.generations_of(&chain)?;
        Ok(Some((chain, generations)))
    }
}
