//! What goes to the threads that may be blocked: what stands in its place meanwhile, and what comes back.

use std::sync::Arc;

use super::seen::Seen;
use crate::bug::Bugs;
use crate::chain::{Generation, ShareId};
use crate::connection::{Connection, Owed, Request, Step};
use crate::datagram::{AnswerTo, Outcome};
use crate::driver::Token;
use crate::net::guard::PeerPermit;
use crate::offload::JobId;
use crate::peer::Peer;
use crate::proxy::Proxied;
use crate::stats::Block;
use crate::tap::Collected;
use crate::timer::Moment;

/// What stands in a connection's place meanwhile.
#[derive(Debug)]
pub(crate) struct Offloaded {
    pub(super) id: u64,
    pub(super) peer: Peer,
    /// What is told of it beside its address.
    pub(super) proxied: Option<Arc<Proxied>>,
    pub(super) listener: u32,
    pub(super) owed: Owed,
    /// Input that it has in hand: what it was counted with, and what came with the work.
    pub(super) unread_bytes: usize,
    pub(super) fresh_bytes: usize,
    /// The send that was in flight is finished.
    pub(super) is_sent: bool,
    /// Its part of `max_per_peer`.
    pub(super) permit: Option<Box<PeerPermit>>,
    /// Its job, and whose share of the threads that has.
    pub(super) share: ShareId,
    pub(super) job: Option<JobId>,
    pub(super) since: Moment,
    /// How long it may stay with a chain that is not its listener's any more.
    pub(super) until: Moment,
    /// When it is looked at again.
    pub(super) armed: Moment,
    pub(super) seen: Seen,
    /// What the host has asked of it meanwhile, in this order: at most one end and one change of its reading, and sends,
    /// which their account bounds.
    pub(super) asked: Vec<Request>,
    /// So has the reading of its listener.
    pub(super) is_listener_changed: bool,
}

impl Offloaded {
    /// Keeps a request until the connection is back.
    pub(super) fn ask(&mut self, request: Request) {
        let is_replaced = |asked: &Request| {
            matches!(
                (asked, &request),
                (Request::Pause | Request::Resume, Request::Pause | Request::Resume)
                    | (Request::ShutDown, Request::ShutDown)
                    | (Request::Close, Request::Close)
            )
        };
        self.asked.retain(|asked| !is_replaced(asked));
        self.asked.push(request);
    }

    /// Bytes that the host has sent it meanwhile.
    pub(super) fn asked_bytes(&self) -> usize {
        let bytes =
            |asked: &Request| if let Request::Send(unasked) = asked { unasked.bytes.len() } else { 0 };
        self.asked.iter().map(bytes).sum()
    }
}

/// What a job of an offloaded connection hands back.
#[derive(Debug)]
pub(crate) struct OffloadResult {
    pub(super) token: Token,
    pub(super) connection: Connection,
    pub(super) step: Step,
    /// The generation that was its listener's when it went.
    pub(super) current: Arc<Generation>,
    pub(super) stats: Block,
    /// What it recorded for taps.
    pub(super) records: Vec<Collected>,
    pub(super) bugs: Option<Bugs>,
}

/// The same of a datagram.
#[derive(Debug)]
pub(crate) struct DatagramResult {
    pub(super) token: Token,
    pub(super) to: AnswerTo,
    pub(super) from: Peer,
    /// The chain that it went through.
    pub(super) generation: Arc<Generation>,
    /// Its number among those that taps are to hear of, and when it came.
    pub(super) message: Option<u64>,
    pub(super) came: Moment,
    pub(super) outcome: Outcome,
    pub(super) stats: Block,
    pub(super) bugs: Option<Bugs>,
}
