//! A chain as one worker uses it.

use std::sync::Arc;

use crate::error::Result;
use crate::transform::library::{Instance, Stages};

/// The number of a chain in this process: its jobs have a share of the threads that may block.
pub(crate) type ShareId = u64;

/// One chain as it stands, immutable. Changing a chain makes another generation.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(super) stages: Arc<Stages>,
    /// The stages that need memory of their own for their output, in order. None: the whole chain works in place, but
    /// for what functions replace.
    pub(super) processes: Vec<usize>,
    /// All stages are maps: answers always stand where the messages stood.
    pub(super) is_map_only: bool,
    /// The stages of a raw stream that are called when there is something, and at its end: those in `processes`, and
    /// functions with sessions.
    pub(super) streamers: Vec<usize>,
    hears_end: bool,
    is_offloaded: bool,
    /// The one and not the other.
    is_fast: bool,
    /// Of its chain.
    share: ShareId,
}

impl Generation {
    pub(crate) fn new(instances: Vec<Arc<Instance>>, share: ShareId) -> Result<Generation> {
        let stages = Stages::new(instances)?;
        let all = || (0..stages.len()).map(|stage| stages.instance(stage));
        let makes_output = |instance: &Instance| !instance.is_map() && !instance.is_function();
        let processes = all()
            .enumerate()
            .filter(|(_, instance)| makes_output(instance))
            .map(|(stage, _)| stage)
            .collect();
        let hears = |instance: &Instance| instance.is_function() && instance.has_session();
        let streamers = all()
            .enumerate()
            .filter(|(_, instance)| makes_output(instance) || hears(instance))
            .map(|(stage, _)| stage)
            .collect();
        let hears_end = all().any(hears);
        let is_map_only = all().all(Instance::is_map);
        let is_offloaded = all().any(Instance::is_offloaded);
        let is_fast = is_map_only && !is_offloaded;
        Ok(Generation {
            stages: Arc::new(stages),
            processes,
            is_map_only,
            streamers,
            hears_end,
            is_offloaded,
            is_fast,
            share,
        })
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Whether answers stand where the messages stood, unless a function has [replaced](super::Scratch::replaced) one.
    pub(crate) fn is_in_place(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether no function can replace an answer either.
    pub(crate) fn is_map_only(&self) -> bool {
        self.is_map_only
    }

    /// Whether some function with sessions is to hear of the end of a raw stream.
    pub(crate) fn hears_end(&self) -> bool {
        self.hears_end
    }

    /// Whether answers always stand where the messages stood, and are made on the worker.
    #[inline]
    pub(crate) fn is_fast(&self) -> bool {
        self.is_fast
    }

    /// Whether some transform may block, so that messages go through off the worker.
    pub(crate) fn is_offloaded(&self) -> bool {
        self.is_offloaded
    }

    /// Has the next call of each stage timed.
    #[cold]
    pub(crate) fn time_next_calls(&self) {
        self.stages.time_next_calls();
    }

    /// The share of the threads for transforms that may block that all generations of its chain have together.
    pub(crate) fn share(&self) -> ShareId {
        self.share
    }

    pub(crate) fn last_stage(&self) -> usize {
        self.stages.len().saturating_sub(1)
    }

    pub(crate) fn stage_id(&self, stage: usize) -> &'static str {
        if stage < self.stages.len() { self.stages.instance(stage).id() } else { "?" }
    }

    /// Whether a stage is a function of the host's.
    pub(crate) fn is_function(&self, stage: usize) -> bool {
        stage < self.stages.len() && self.stages.instance(stage).is_function()
    }

    /// The stages that greet: that send something when a connection opens, before they are asked.
    pub(crate) fn greeters(&self) -> impl Iterator<Item = usize> {
        (0..self.stages.len()).filter(|&stage| self.stages.instance(stage).greets())
    }
}
