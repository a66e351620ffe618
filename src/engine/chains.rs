//! The chains of an engine's listeners, and their swaps.

use std::sync::Arc;

use super::listeners::{ListenerId, check_needs, find_listener};
use super::state::Engine;
use crate::chain::{Chain, Generation};
use crate::error::{Error, Result};
use crate::event::{EventKind, LogLevel, Subject};
use crate::listener::Listener;
use crate::lock::lock;
use crate::options::Options;
use crate::transform::registry::new_overwritten_plugins;
use crate::transform::spec::ChainSpec;

impl Engine {
    /// Changes the engine's chain, also while it runs, for every listener that has no chain of its own. Messages
    /// that come after this returns may still go through the old chain until each worker's next turn; no message
    /// goes through both.
    pub fn set_chain(&self, text: &str) -> Result<()> {
        self.check_served()?;
        let spec = ChainSpec::parse(text)?;
        let chain = self.create_chain(&spec, text)?;
        let mut generations = self.generations_of(&chain)?;
        let mut control = lock(&self.control);
        if generations.is_empty() {
            // Workers may have been made since.
            generations = self.generations_of(&chain)?;
        }
        let uses_it = |listener: &&Arc<Listener>| Arc::ptr_eq(&listener.chain(), &control.chain);
        let affected: Vec<_> = control.listeners.iter().filter(uses_it).cloned().collect();
        affected.iter().try_for_each(|listener| check_needs(listener, &chain))?;
        let old: Vec<_> = affected
            .iter()
            .map(|listener| listener.set_chain(Arc::clone(&chain), generations.clone()))
            .collect();
        let old_chain = std::mem::replace(&mut control.chain, chain);
        let old_generations = std::mem::replace(&mut control.engine_chain, generations);
        self.announce_swap(&spec, &());
        drop(control);
        // Destroying what nobody uses any more takes as long as its plugins do.
        drop((old, old_chain, old_generations));
        Ok(())
    }

    /// Changes the chain of one listener, also while it runs. From then on it has a chain of its own.
    pub fn set_chain_of(&self, id: ListenerId, text: &str) -> Result<()> {
        self.check_served()?;
        let spec = ChainSpec::parse(text)?;
        self.find(id)?;
        let chain = self.create_chain(&spec, text)?;
        let mut generations = self.generations_of(&chain)?;
        let control = lock(&self.control);
        if generations.is_empty() {
            generations = self.generations_of(&chain)?;
        }
        // It may have been closed meanwhile.
        let listener = find_listener(&control, id)?;
        check_needs(&listener, &chain)?;
        let old = listener.set_chain(chain, generations);
        self.announce_swap(&spec, &*listener);
        drop(control);
        drop(old);
        Ok(())
    }

    /// No message will ever pass another chain of an engine that has ended.
    pub(super) fn check_served(&self) -> Result<()> {
        if self.has_ended() { Err(Error::State("the engine has ended")) } else { Ok(()) }
    }

    /// The engine's chain, canonical: that of every listener that has none of its own.
    pub fn chain(&self) -> String {
        lock(&self.control).chain.spec().to_owned()
    }

    /// The chain that a listener has for itself.
    pub(super) fn own_chain(&self, options: &Options) -> Result<Option<Arc<Chain>>> {
        options.chain.as_ref().map(|text| self.create_chain(&ChainSpec::parse(text)?, text)).transpose()
    }

    /// `text` is what `spec` was read from.
    pub(super) fn create_chain(&self, spec: &ChainSpec, text: &str) -> Result<Arc<Chain>> {
        let tables = lock(&self.registry).find_all(spec).map_err(|error| error.in_text(text))?;
        for path in new_overwritten_plugins() {
            let text = format_args!(
                "the plugin {} was written to in place after it was loaded (cp): what runs of it may crash; replace \
                 plugins by rename (mv, install)",
                path.display()
            );
            self.services.events.emit_about(LogLevel::Warn, EventKind::ChainChanged, &(), text);
        }
        Chain::create(spec, &tables, &self.services).map(Arc::new).map_err(|error| error.in_text(text))
    }

    /// The generations of a chain for the workers that there are; none, while there are none.
    pub(super) fn generations_of(&self, chain: &Chain) -> Result<Vec<Arc<Generation>>> {
        self.core.get().map_or(Ok(Vec::new()), |core| chain.generations(core.workers.len()))
    }

    pub(super) fn announce_swap(&self, spec: &ChainSpec, about: &impl Subject) {
        if let Some(core) = self.core.get() {
            core.shared.announce_change();
        }
        let text = format_args!("chain {:?}", spec.to_string());
        self.services.events.emit_about(LogLevel::Info, EventKind::ChainChanged, about, text);
    }
}
