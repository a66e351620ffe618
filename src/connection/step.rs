//! What a connection asks its worker to do next.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::chain::Generation;
use crate::driver::Close;
use crate::stats::CloseReason;
use crate::transform::library::{Fault, Session};

/// What is to be done now: what is rare first, and then the send.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) send: Send,
    /// Nothing but this send is on its way: when it has left at once, `sent_at_once` is all there is to say.
    pub(crate) is_alone: bool,
    /// All that most steps do not want, out of their way.
    pub(crate) rare: Option<Box<Rare>>,
}

/// What a step may want beside a send, in this order.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Something for the log.
    pub(crate) fault: Option<TransformFault>,
    /// Why it was never open: what is wrong with its preface, or that its time was over. For the log.
    pub(crate) refused: Option<(CloseReason, &'static str)>,
    /// What the connection has left behind: to be dropped off the worker.
    pub(crate) retired: Option<Box<RetiredSession>>,
    pub(crate) reading: Reading,
    /// Delays begin now, not when the turn began: `schedule` wants to be called.
    pub(crate) has_delays: bool,
    /// End our side.
    pub(crate) shuts_down: bool,
    pub(crate) close: Option<Closing>,
    /// The peer is known now: the worker admits it or does not, and calls `identified`.
    pub(crate) is_identified: bool,
    /// To be done where it may block, by `perform`.
    pub(crate) offload: Option<Work>,
}

impl Step {
    /// What is wanted beside a send.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn offload(work: Work) -> Step {
        let mut step = Step::default();
        step.rare().offload = Some(work);
        step
    }

    pub(super) fn close(closing: Closing) -> Step {
        let mut step = Step::default();
        step.rare().close = Some(closing);
        step
    }

    pub(super) fn is_closing(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.close.is_some())
    }
}

/// Whether to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reading {
    #[default]
    AsBefore,
    Pause,
    Resume,
}

/// Bytes for the driver.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Send {
    #[default]
    Nothing,
    /// A part of its receive buffer.
    RecvBuf(Range<usize>),
    Owned(Vec<u8>),
}

/// The connection is over.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) reason: CloseReason,
    pub(crate) how: Close,
    /// What the system said, where that is why.
    pub(crate) error: Option<io::Error>,
}

/// A transform failed.
#[derive(Debug)]
pub(crate) struct TransformFault {
    pub(crate) generation: Arc<Generation>,
    pub(crate) stage: usize,
    pub(crate) fault: Fault,
}

/// A session and the chain that it was opened in: its last user may be whoever drops this.
#[derive(Debug)]
pub(crate) struct RetiredSession {
    pub(super) _session: Session,
    pub(super) generation: Arc<Generation>,
}

impl RetiredSession {
    /// Of its chain.
    pub(crate) fn share(&self) -> u64 {
        self.generation.share()
    }
}

/// What a connection does off the worker, since a transform may block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Open,
    Receive(Vec<u8>),
    /// Answer what is unread.
    GoOn,
    /// Follow a change of the chain.
    Swap,
    /// The same, or end: its time with the old chain is over.
    SwapOrEnd,
}

/// Why a connection is over whose socket has this error.
pub(crate) fn broken_by(error: &io::Error) -> CloseReason {
    match error.kind() {
        _ if error.raw_os_error() == Some(libc::EMSGSIZE) => CloseReason::AnswerTooLong,
        // It vanished, where the kernel's probes stay without an answer (tcp(7)).
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => CloseReason::PeerReset,
        _ => CloseReason::SystemError,
    }
}
