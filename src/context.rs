//! What a listener imposes on its peers, and what a worker lends a connection or a datagram for one step.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Pool;
use crate::chain::{Generation, Scratch};
use crate::frame::Framer;
use crate::later::TicketIssuer;
use crate::net::guard::Amplification;
use crate::options::MinRate;
use crate::peer::Peer;
use crate::proxy::Proxied;
use crate::stats::Block;
use crate::tap::Recorder;
use crate::timer::Moment;
use crate::transform::library::{Conversation, LocalEnd};

/// What all connections and datagrams of a listener are bound by.
#[derive(Debug)]
pub(crate) struct ConnLimits {
    /// The listener, as its transforms hear of it, and the bytes of one answer; on a raw stream, what one stage may leave
    /// unread or ask to be given room for at once.
    pub(crate) local: LocalEnd,
    pub(crate) framer: Framer,
    /// Each receive is one message, each answer one record (seqpacket).
    pub(crate) records: bool,
    /// How long an answer to a datagram may be.
    pub(crate) amplification: Amplification,
    /// One read.
    pub(crate) read_bytes_max: usize,
    /// What the answers that wait for the peer may cost: at that the connection stops answering, and no read is begun
    /// whose answer could take them over it.
    pub(crate) high_water_bytes: usize,
    pub(crate) min_rate: Option<MinRate>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) write_timeout: Duration,
    pub(crate) swap_timeout: Duration,
}

impl ConnLimits {
    /// A conversation with `peer`, as transforms hear of it.
    pub(crate) fn conversation<'a>(
        &'a self,
        id: u64,
        peer: &'a Peer,
        proxied: Option<&'a Proxied>,
    ) -> Conversation<'a> {
        Conversation { local: &self.local, peer, proxied, id }
    }

    /// What the input and the answers of one connection may take of memory at most: what docs/guarantees.md says, with
    /// vectors that have grown to twice their bytes.
    #[cfg(debug_assertions)]
    pub(crate) fn cost_max(&self) -> usize {
        // What the host sends unasked has a high water of its own.
        2 * (2 * self.high_water_bytes + 2 * self.read_bytes_max + self.local.answer_bytes_max) + 4096
    }

    /// What the answers that wait may cost before a read is begun.
    pub(crate) fn read_below_bytes(&self) -> usize {
        self.high_water_bytes.saturating_sub(self.read_bytes_max)
    }
}

/// What a worker lends for one step.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) limits: &'a ConnLimits,
    /// The listener's chain as it is now.
    pub(crate) current: &'a Arc<Generation>,
    pub(crate) pool: &'a mut Pool,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) stats: &'a Block,
    /// For the taps that are open.
    pub(crate) recorder: &'a mut Recorder,
    /// When the turn began.
    pub(crate) now: Moment,
    /// How many more sends may begin in this step.
    pub(crate) sends_left: usize,
    /// This thread may be blocked by a transform.
    pub(crate) may_block: bool,
    /// Where functions get tickets for answers that come later; `None`: none may.
    pub(crate) issuer: Option<TicketIssuer<'a>>,
    /// Nobody should have to wait for long for a peer that does not end.
    pub(crate) is_draining: bool,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    /// A part of the driver's receive buffer.
    InRecvBuf(Range<usize>),
    Owned(Vec<u8>),
}
