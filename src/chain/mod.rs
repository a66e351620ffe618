//! A chain: its transforms, a generation of them for each worker, and how data goes through one.
//!
//! - [`message`]: a whole message, at once: a framed message, a record, a datagram, and what one read of a raw stream
//!   brought where all transforms work in place.
//! - [`stream`]: a raw stream through transforms that make output of their own: piece by piece, as far as there is room.

mod message;
mod stream;

pub(crate) use message::ChainContext;
pub(crate) use stream::{StreamContext, StreamInput, StreamOutcome};

use std::sync::Arc;

use resay_plugin::abi;

use crate::bug;
use crate::error::Result;
use crate::limits::READ_BYTES_MAX;
use crate::transform::library::{Fault, Instance, Services, Stages, Status, Table};
use crate::transform::spec::ChainSpec;

/// A chain whose transforms have been created, before it is known how many workers will use it.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The text, canonical.
    spec: String,
    stages: Vec<Template>,
}

/// What makes a stage's instances.
#[derive(Debug)]
struct Template {
    table: Table,
    options: Vec<(String, Vec<u8>)>,
    services: Services,
    /// The only instance, or the first worker's.
    first: Arc<Instance>,
}

impl Chain {
    /// Creates the transforms of a chain, of which `tables` has one for each stage.
    pub(crate) fn create(spec: &ChainSpec, tables: &[Table], services: &Services) -> Result<Chain> {
        let mut stages = Vec::with_capacity(spec.stages.len());
        for (stage, table) in spec.stages.iter().zip(tables) {
            let options: Vec<_> = stage.options.iter().map(|o| (o.key.clone(), o.value.clone())).collect();
            let first = Arc::new(Instance::create(table.clone(), &options, services)?);
            stages.push(Template { table: table.clone(), options, services: services.clone(), first });
        }
        Ok(Chain { spec: spec.to_string(), stages })
    }

    pub(crate) fn spec(&self) -> &str {
        &self.spec
    }

    /// A transform that only takes whole messages, if there is one.
    pub(crate) fn needs_messages(&self) -> Option<&'static str> {
        self.stages.iter().find(|stage| stage.first.needs_messages()).map(|stage| stage.first.id())
    }

    /// A generation for each worker: with the same instances, or their own where a transform asks for that.
    pub(crate) fn generations(&self, workers: usize) -> Result<Vec<Arc<Generation>>> {
        let instance = |stage: &Template, worker: usize| {
            if worker == 0 || !stage.table.is_per_worker() {
                return Ok(Arc::clone(&stage.first));
            }
            Instance::create(stage.table.clone(), &stage.options, &stage.services).map(Arc::new)
        };
        (0..workers)
            .map(|worker| {
                let instances =
                    self.stages.iter().map(|stage| instance(stage, worker)).collect::<Result<_>>()?;
                Generation::new(instances).map(Arc::new)
            })
            .collect()
    }
}

/// One chain as it stands, immutable. Changing a chain makes another generation.
#[derive(Debug)]
pub(crate) struct Generation {
    stages: Arc<Stages>,
    /// The stages that need memory of their own for their output, in order. None: the whole chain works in place, but
    /// for what functions replace.
    processes: Vec<usize>,
    /// All stages are maps: answers always stand where the messages stood.
    is_map_only: bool,
    is_offloaded: bool,
    /// The one and not the other.
    is_fast: bool,
}

impl Generation {
    pub(crate) fn new(instances: Vec<Arc<Instance>>) -> Result<Generation> {
        let stages = Stages::new(instances)?;
        let all = || (0..stages.len()).map(|stage| stages.instance(stage));
        let makes_output = |instance: &Instance| !instance.is_map() && !instance.is_function();
        let processes = all()
            .enumerate()
            .filter(|(_, instance)| makes_output(instance))
            .map(|(stage, _)| stage)
            .collect();
        let is_map_only = all().all(Instance::is_map);
        let is_offloaded = all().any(Instance::is_offloaded);
        let is_fast = is_map_only && !is_offloaded;
        Ok(Generation { stages: Arc::new(stages), processes, is_map_only, is_offloaded, is_fast })
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Whether answers stand where the messages stood, unless a function has [replaced](Scratch::replaced) one.
    pub(crate) fn is_in_place(&self) -> bool {
        self.processes.is_empty()
    }

    /// Whether no function can replace an answer either.
    pub(crate) fn is_map_only(&self) -> bool {
        self.is_map_only
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

/// A part of an answer, from the end of the one before, that is sent no earlier than so long from now. Bytes behind the
/// last range are not delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DelayedRange {
    pub(crate) end: usize,
    pub(crate) delay_us: u64,
}

/// How data came through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChainOutcome {
    Answer,
    Drop,
    /// Send what there is, then close.
    Close,
    /// Answer nothing, then close in the same good order: a stage said Close, and a later one Drop.
    DropAndClose,
    Reset,
    Failed {
        stage: usize,
        fault: Fault,
    },
}

impl ChainOutcome {
    /// What a stage's status means for what it was given; `None`: that goes on.
    pub(crate) fn of(stage: usize, status: Status) -> Option<ChainOutcome> {
        match status {
            Status::Ok | Status::MoreIn | Status::MoreOut => None,
            Status::Close => Some(ChainOutcome::Close),
            Status::DropAndClose => Some(ChainOutcome::DropAndClose),
            Status::Drop => Some(ChainOutcome::Drop),
            Status::Reset => Some(ChainOutcome::Reset),
            Status::Failed(fault) => Some(ChainOutcome::Failed { stage, fault }),
        }
    }

    /// The same for a status with which a map has ended a message's way.
    #[cold]
    pub(crate) fn of_end(stage: usize, status: Status) -> ChainOutcome {
        ChainOutcome::of(stage, status).unwrap_or_else(|| {
            bug::found("a status that ends a message's way");
            ChainOutcome::Drop
        })
    }
}

/// A worker's memory for what lies between two stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    buffers: [Vec<u8>; 2],
    /// What `process` writes to: initialised once, so that a call costs no clearing of its room.
    room: Vec<u8>,
    /// The buffer that holds the last message's answer, where a chain that works in place has not left it there.
    replaced: Option<usize>,
    /// For streams that leave nothing unread.
    stream: StreamInput,
}

/// Memory between stages that is kept for the next turn.
const SCRATCH_BYTES_MAX: usize = 2 * READ_BYTES_MAX;
const _: () = assert!(SCRATCH_BYTES_MAX.is_power_of_two());

impl Scratch {
    /// The answer to the last message, where a function made another one of it and nothing behind needed memory.
    pub(crate) fn replaced(&self) -> Option<&[u8]> {
        self.buffers.get(self.replaced?).map(Vec::as_slice)
    }

    /// Gives back what an unusually large message has needed.
    #[inline]
    pub(crate) fn trim(&mut self) {
        let [first, second] = &self.buffers;
        // Any of them is over the limit where all together are: it is a power of two.
        if (first.capacity() | second.capacity() | self.room.capacity()) > SCRATCH_BYTES_MAX {
            self.trim_large();
        }
    }

    #[cold]
    fn trim_large(&mut self) {
        for buffer in self.buffers.iter_mut().chain([&mut self.room]) {
            if buffer.capacity() > SCRATCH_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// Initialised memory of `bytes` bytes, whatever is in it.
fn room_of(room: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if room.len() < bytes {
        room.resize(bytes, 0);
    }
    bug::part_mut(room, ..bytes)
}

/// The flags of a message that comes whole.
pub(crate) const WHOLE: u32 = abi::RESAY_IO_BEGIN | abi::RESAY_IO_END;
/// The flags of a datagram.
pub(crate) const DATAGRAM: u32 = WHOLE | abi::RESAY_IO_DATAGRAM;
