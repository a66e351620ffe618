//! How data came through a chain.

use crate::bug;
use crate::later::Ticket;
use crate::transform::library::{Fault, Status};

/// A part of an answer, from the end of the one before, that is sent no earlier than so long from now. Bytes behind the
/// last range are not delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DelayedRange {
    pub(crate) end: usize,
    pub(crate) delay_us: u64,
}

/// A message that has come as far as a function, and goes on later.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// The function.
    pub(crate) stage: usize,
    pub(crate) answer: DeferredAnswer,
    /// For how long the answer is to be held back at least, from when the message came.
    pub(crate) delay_us: u64,
}

/// What a deferred message waits for.
#[derive(Debug)]
pub(crate) enum DeferredAnswer {
    /// The function's answer.
    ToCome(Ticket),
    /// Messages before it at the same function. This is the function's answer.
    Given(Vec<u8>),
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
    /// The answer comes later: [`Deferred`] has how. `closes`: the connection ends behind it.
    Later {
        closes: bool,
    },
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
            Status::Later => Some(ChainOutcome::Later { closes: false }),
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
