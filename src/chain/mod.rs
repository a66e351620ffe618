//! A chain: its transforms, a generation of them for each worker, and how data goes through one.
//!
//! - [`generation`]: a chain as one worker uses it.
//! - [`message`]: a whole message, at once: a framed message, a record, a datagram, and what one read of a raw stream
//!   brought where all transforms work in place.
//! - [`stream`]: a raw stream through transforms that make output of their own: piece by piece, as far as there is room.

mod generation;
mod message;
mod outcome;
mod scratch;
mod stream;
mod stream_input;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use generation::{Generation, ShareId};
pub(crate) use message::{ChainContext, note_delay, stage_bit};
pub(crate) use outcome::{ChainOutcome, Deferred, DeferredAnswer, DelayedRange};
pub(crate) use scratch::Scratch;
pub(crate) use stream::{StreamContext, StreamOutcome};
pub(crate) use stream_input::StreamInput;

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resay_plugin::abi;

use crate::error::{Error, Result};
use crate::transform::library::{Callee, Instance, Services};
use crate::transform::spec::ChainSpec;

/// A chain whose transforms have been created, before it is known how many workers will use it.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The text, canonical.
    spec: String,
    /// Its number in this process.
    share: ShareId,
    stages: Vec<Template>,
}

/// What makes a stage's instances.
#[derive(Debug)]
struct Template {
    callee: Callee,
    options: Vec<(String, Vec<u8>)>,
    services: Services,
    /// The only instance, or the first worker's.
    first: Arc<Instance>,
}

impl Chain {
    /// Creates the transforms of a chain, of which `callees` has one for each stage.
    pub(crate) fn create(spec: &ChainSpec, callees: &[Callee], services: &Services) -> Result<Chain> {
        let mut stages = Vec::with_capacity(spec.stages.len());
        for (stage, callee) in spec.stages.iter().zip(callees) {
            let options: Vec<_> = stage.options.iter().map(|o| (o.key.clone(), o.value.clone())).collect();
            let place = |error| match error {
                Error::Transform { id, reason, .. } => {
                    let place = Some(stage.place_of(&reason));
                    Error::Transform { id, reason, place }
                }
                error => error,
            };
            let first = Arc::new(Instance::create(callee.clone(), &options, services).map_err(place)?);
            stages.push(Template { callee: callee.clone(), options, services: services.clone(), first });
        }
        static CHAINS: AtomicU64 = AtomicU64::new(1);
        let share = CHAINS.fetch_add(1, Ordering::Relaxed);
        Ok(Chain { spec: spec.to_string(), share, stages })
    }

    /// Its share of the threads for transforms that may block.
    pub(crate) fn share(&self) -> ShareId {
        self.share
    }

    pub(crate) fn spec(&self) -> &str {
        &self.spec
    }

    /// Whether a transform with this id is one of its stages.
    pub(crate) fn has(&self, id: &CStr) -> bool {
        self.stages.iter().any(|stage| stage.first.id().as_bytes() == id.to_bytes())
    }

    /// A transform that only takes whole messages, if there is one.
    pub(crate) fn needs_messages(&self) -> Option<&'static str> {
        self.stages.iter().find(|stage| stage.first.needs_messages()).map(|stage| stage.first.id())
    }

    /// A generation for each worker: with the same instances, or their own where a transform asks for that.
    pub(crate) fn generations(&self, workers: usize) -> Result<Vec<Arc<Generation>>> {
        let instance = |stage: &Template, worker: usize| {
            if worker == 0 || !stage.callee.is_per_worker() {
                return Ok(Arc::clone(&stage.first));
            }
            Instance::create(stage.callee.clone(), &stage.options, &stage.services).map(Arc::new)
        };
        (0..workers)
            .map(|worker| {
                let instances =
                    self.stages.iter().map(|stage| instance(stage, worker)).collect::<Result<_>>()?;
                Generation::new(instances, self.share).map(Arc::new)
            })
            .collect()
    }
}

/// The flags of a message that comes whole.
pub(crate) const WHOLE: u32 = abi::RESAY_IO_BEGIN | abi::RESAY_IO_END;
/// The flags of a datagram.
pub(crate) const DATAGRAM: u32 = WHOLE | abi::RESAY_IO_DATAGRAM;
