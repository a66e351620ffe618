//! A chain: its transforms, a generation of them for each worker, and how a message goes through one.

use std::sync::Arc;

use resay_plugin::abi;

use crate::error::Result;
use crate::transform::library::{Fault, Instance, Services, Session, Stages, Status, Table};
use crate::transform::spec::ChainSpec;

/// A chain whose transforms have been created, before it is known how many workers will use it.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The text, canonical.
    spec: String,
    stages: Vec<Template>,
    /// Some transform may block, so all are called off the workers.
    is_offloaded: bool,
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
        let is_offloaded = tables.iter().any(Table::is_offloaded);
        let mut stages = Vec::with_capacity(spec.stages.len());
        for (stage, table) in spec.stages.iter().zip(tables) {
            let options: Vec<_> = stage.options.iter().map(|o| (o.key.clone(), o.value.clone())).collect();
            let first = Arc::new(Instance::create(table.clone(), &options, services, is_offloaded)?);
            stages.push(Template { table: table.clone(), options, services: services.clone(), first });
        }
        Ok(Chain { spec: spec.to_string(), stages, is_offloaded })
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
            Instance::create(stage.table.clone(), &stage.options, &stage.services, self.is_offloaded)
                .map(Arc::new)
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
    /// The last stage that needs memory of its own for its output; `None`: the whole chain works in place, but for what
    /// functions replace.
    last_process: Option<usize>,
    is_offloaded: bool,
}

impl Generation {
    pub(crate) fn new(instances: Vec<Arc<Instance>>) -> Result<Generation> {
        let stages = Stages::new(instances)?;
        let last_process = (0..stages.len()).rev().find(|&stage| {
            let instance = stages.instance(stage);
            !instance.is_map() && !instance.is_function()
        });
        let is_offloaded = (0..stages.len()).any(|stage| stages.instance(stage).is_offloaded());
        Ok(Generation { stages: Arc::new(stages), last_process, is_offloaded })
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Whether answers stand where the messages stood, unless a function has [replaced](Scratch::replaced) one.
    pub(crate) fn is_in_place(&self) -> bool {
        self.last_process.is_none()
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

    /// Sends one message through. An in-place chain leaves the answer in `message`, or where [`Scratch::replaced`] says,
    /// and `way.out` as it is; any other appends the answer to `way.out`, and changes `message` on the way.
    pub(crate) fn run(&self, message: &mut [u8], way: &mut Way<'_>) -> Ran {
        debug_assert!(Arc::ptr_eq(way.session.stages(), &self.stages), "a session belongs to one generation");
        let flags = way.flags;
        self.run_from(0, flags, None, message, way)
    }

    /// What the transforms of this chain say when a connection opens, each sent through those behind it.
    pub(crate) fn greetings(&self) -> impl Iterator<Item = usize> {
        (0..self.stages.len()).filter(|&stage| self.stages.instance(stage).greets())
    }

    /// Lets one stage greet; those behind it see a message like any other. The greeting is appended to `way.out`.
    pub(crate) fn greet(&self, stage: usize, way: &mut Way<'_>) -> Ran {
        self.run_from(stage, 0, Some(stage), &mut [], way)
    }

    /// Sends a message through, beginning at a stage that is called with flags of its own. `greeter`: a stage that is
    /// to be asked by process(), whatever it does with messages.
    fn run_from(
        &self,
        first: usize,
        first_flags: u32,
        greeter: Option<usize>,
        message: &mut [u8],
        way: &mut Way<'_>,
    ) -> Ran {
        let later_flags = std::mem::replace(&mut way.flags, first_flags);
        let base = way.out.len();
        let mut delays = Delays { base, so_far: base, earlier_us: 0, is_noted: false };
        let last_process = self.last_process.max(greeter);
        let mut at = Place::Message;
        let mut ran = Ran::Answer;
        way.scratch.replaced = None;
        for stage in first..self.stages.len() {
            let status = if self.stages.instance(stage).is_map() && greeter != Some(stage) {
                let bytes = match at {
                    Place::Message => &mut *message,
                    Place::Scratch(index) => &mut way.scratch.buffers[index],
                    Place::Out => way.out.get_mut(base..).unwrap_or_default(),
                };
                way.session.map(stage, bytes)
            } else if self.stages.instance(stage).is_function() {
                let (status, is_replaced) = call(stage, message, at, base, way);
                if is_replaced {
                    at = at.other();
                }
                status
            } else {
                let target = if last_process == Some(stage) { Place::Out } else { at.other() };
                let status = self.process(stage, message, at, target, way, &mut delays);
                at = target;
                status
            };
            way.flags = later_flags;
            match status {
                // The rest of a raw stream's input waits in `tails`; what there is goes on.
                Status::Ok | Status::MoreIn | Status::MoreOut => {}
                Status::Close => ran = Ran::Close,
                Status::Drop => return way.take_back(base, Ran::Drop),
                Status::Reset => return way.take_back(base, Ran::Reset),
                Status::Failed(fault) => return way.take_back(base, Ran::Failed { stage, fault }),
            }
        }
        if let Place::Scratch(index) = at {
            match self.last_process {
                None => way.scratch.replaced = Some(index),
                Some(_) => way.take_over(base, index),
            }
        }
        if delays.earlier_us > 0 && !delays.is_noted {
            delays.note(way.pieces, way.out.len(), 0);
        }
        ran
    }

    /// Sends what stands at `source` through one stage, to `target`.
    fn process(
        &self,
        stage: usize,
        message: &[u8],
        source: Place,
        target: Place,
        way: &mut Way<'_>,
        delays: &mut Delays,
    ) -> Status {
        let Scratch { buffers: [first, second], joined, .. } = &mut *way.scratch;
        let (input, output): (&[u8], &mut Vec<u8>) = match (source, target) {
            (Place::Message, Place::Out) => (message, &mut *way.out),
            (Place::Message, Place::Scratch(0)) => (message, first),
            (Place::Message, _) => (message, second),
            (Place::Scratch(0), Place::Out) => (first, &mut *way.out),
            (Place::Scratch(0), _) => (first, second),
            (_, Place::Out) => (second, &mut *way.out),
            (_, _) => (second, first),
        };
        if target != Place::Out {
            output.clear();
        }
        let input = match way.tails.of(stage) {
            Some(tail) if !tail.is_empty() => {
                joined.clear();
                joined.append(tail);
                joined.extend_from_slice(input);
                joined
            }
            _ => input,
        };
        let pieces = &mut *way.pieces;
        let mut stage_us = 0;
        let delayed = |end: usize, delay_us: u64| match target {
            // What another stage is going to change has no pieces any more: the message waits as a whole.
            Place::Message | Place::Scratch(_) => stage_us = stage_us.max(delay_us),
            Place::Out if delay_us > 0 || delays.is_noted => delays.note(pieces, end, delay_us),
            Place::Out => delays.so_far = end,
        };
        let (status, used) = way.session.process(stage, input, output, way.out_max, way.flags, delayed);
        delays.earlier_us = delays.earlier_us.saturating_add(stage_us);
        if status == Status::MoreIn {
            let rest = input.get(used..).unwrap_or_default();
            if rest.len() > way.out_max {
                return Status::Failed(Fault::TooLong);
            }
            if !rest.is_empty() {
                way.tails.keep(stage, self.stages.len(), rest);
            }
        }
        status
    }
}

/// Calls a function with what stands at `source`; what it answers instead goes to the next place.
fn call(stage: usize, message: &[u8], source: Place, base: usize, way: &mut Way<'_>) -> (Status, bool) {
    let [first, second] = &mut way.scratch.buffers;
    let (input, output): (&[u8], &mut Vec<u8>) = match source {
        Place::Message => (message, first),
        Place::Scratch(0) => (first, second),
        Place::Scratch(_) => (second, first),
        Place::Out => (way.out.get(base..).unwrap_or_default(), first),
    };
    if input.is_empty() && way.flags & END_OF_STREAM != 0 {
        // A function keeps nothing of a stream, so it has nothing to say at its end.
        return (Status::Ok, false);
    }
    way.session.call(stage, input, output, way.out_max, way.flags)
}

/// What a message takes along on its way through a chain.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) session: &'a mut Session,
    /// Where answers are appended that are not made in place, at most `out_max` bytes a message.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) out_max: usize,
    /// Those of `resay_io`.
    pub(crate) flags: u32,
    pub(crate) scratch: &'a mut Scratch,
    /// What stages of a raw stream have not read yet.
    pub(crate) tails: &'a mut Tails,
    /// How `out` is to leave in time; empty while nothing is held back.
    pub(crate) pieces: &'a mut Vec<Piece>,
}

impl Way<'_> {
    /// Puts an answer that a function made behind the last `process` where it belongs. What was to leave in pieces
    /// leaves as a whole.
    fn take_over(&mut self, base: usize, index: usize) {
        let longest_us =
            self.pieces.iter().filter(|piece| piece.end > base).map(|piece| piece.delay_us).max();
        self.pieces.retain(|piece| piece.end <= base);
        self.out.truncate(base);
        self.out.extend_from_slice(self.scratch.buffers.get(index).map_or(&[], Vec::as_slice));
        if let Some(delay_us) = longest_us {
            self.pieces.push(Piece { end: self.out.len(), delay_us });
        }
    }

    /// Forgets a message that gets no answer.
    fn take_back(&mut self, base: usize, ran: Ran) -> Ran {
        self.out.truncate(base);
        self.pieces.retain(|piece| piece.end <= base);
        ran
    }
}

/// A part of an answer, from the end of the one before, that is held back from now for so long. Bytes behind the last
/// piece are not held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) end: usize,
    pub(crate) delay_us: u64,
}

/// The delays of one message.
struct Delays {
    /// Where its answer begins.
    base: usize,
    /// Where what came first, without a delay, ends.
    so_far: usize,
    /// What stages that are not the last asked for.
    earlier_us: u64,
    /// Some piece of this message is noted.
    is_noted: bool,
}

impl Delays {
    fn note(&mut self, pieces: &mut Vec<Piece>, end: usize, delay_us: u64) {
        if !self.is_noted {
            self.is_noted = true;
            if pieces.last().map_or(0, |piece| piece.end) < self.base {
                pieces.push(Piece { end: self.base, delay_us: 0 });
            }
            if self.so_far > self.base {
                pieces.push(Piece { end: self.so_far, delay_us: self.earlier_us });
            }
        }
        pieces.push(Piece { end, delay_us: delay_us.saturating_add(self.earlier_us) });
    }
}

/// Where a message stands on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Scratch(usize),
    Out,
}

impl Place {
    /// A scratch buffer that is not this place.
    fn other(self) -> Place {
        if self == Place::Scratch(0) { Place::Scratch(1) } else { Place::Scratch(0) }
    }
}

/// How a message came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ran {
    Answer,
    Drop,
    /// Send what there is, then close.
    Close,
    Reset,
    Failed {
        stage: usize,
        fault: Fault,
    },
}

/// A worker's memory for what lies between two stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    buffers: [Vec<u8>; 2],
    joined: Vec<u8>,
    /// The buffer that holds the last message's answer, where a chain that works in place has not left it there.
    replaced: Option<usize>,
}

impl Scratch {
    /// The answer to the last message, where a function made another one of it and nothing behind needed memory.
    pub(crate) fn replaced(&self) -> Option<&[u8]> {
        self.buffers.get(self.replaced?).map(Vec::as_slice)
    }
}

/// What the stages of one raw stream have not read yet, a buffer a stage; nothing while all is read.
#[derive(Debug, Default)]
pub(crate) struct Tails(Option<Box<[Vec<u8>]>>);

impl Tails {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|tails| tails.iter().all(Vec::is_empty))
    }

    fn of(&mut self, stage: usize) -> Option<&mut Vec<u8>> {
        self.0.as_mut()?.get_mut(stage)
    }

    fn keep(&mut self, stage: usize, stages: usize, rest: &[u8]) {
        let tails = self.0.get_or_insert_with(|| vec![Vec::new(); stages].into());
        if let Some(tail) = tails.get_mut(stage) {
            tail.extend_from_slice(rest);
        }
    }
}

/// The flags of a message that comes whole.
pub(crate) const WHOLE: u32 = abi::RESAY_IO_BEGIN | abi::RESAY_IO_END;
/// The flags of the end of a raw stream.
pub(crate) const END_OF_STREAM: u32 = abi::RESAY_IO_EOF;
/// The flags of a datagram.
pub(crate) const DATAGRAM: u32 = WHOLE | abi::RESAY_IO_DATAGRAM;
