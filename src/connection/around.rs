//! What stands before and around a stream.
//!
//! ```text
//! driver ─> preface ─> layer ─> framer ─> chain ─> send queue ─> layer ─> driver
//!           once       both ways, for as long as the connection lives
//! ```
//!
//! A connection goes through three states: *accepted*, while its preface is not complete; *identified*, when it is known
//! who the peer is, and whether that peer may come in; *open*, when its layer is established. Only then do its transforms
//! hear of it, and only then does anything of it reach them. All of it has one deadline, or each state one. Without a preface and a layer a
//! connection is open at once, and neither costs anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::output::Chunk;
use crate::peer::Peer;
use crate::proxy::{HEADER_BYTES_MAX, Proxied};
use crate::transform::library::{Conversation, FilterConn, FilterInstance};

/// Bytes that stand before a stream and tell more about it, such as the header of the PROXY protocol.
pub trait Preface: fmt::Debug + Send {
    /// Looks at all that has come so far.
    fn received(&mut self, bytes: &[u8]) -> PrefaceProgress;
    /// What a proxy at `from` has told of the peer in a preface that is complete, if it is one of a proxy.
    fn proxied(&self, _bytes: &[u8], _from: &Peer) -> Option<Box<Proxied>> {
        None
    }
}

/// How far a preface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefaceProgress {
    /// More has to come.
    NeedMore,
    /// It is complete: so many bytes were its own, and this is the peer, if it says so.
    Done {
        /// Bytes of the preface; what is behind them is the stream's.
        used: usize,
        /// Who is on the other side, where the preface knows better than the socket.
        peer: Option<Peer>,
    },
    /// It is none: the connection is reset.
    Refuse(&'static str),
}

/// Something between the driver's bytes and the framer, such as TLS. It does no I/O.
pub trait Layer: fmt::Debug + Send {
    /// The peer is known: called once, before everything else. An error resets the connection.
    fn begin(&mut self, conversation: &Conversation<'_>) -> Result<(), &'static str> {
        let _ = conversation;
        Ok(())
    }
    /// The peer sent `wire`, which may be overwritten: what it says is appended to `plain`, and what is to be sent to the
    /// peer for the layer's own sake to `reply`. An error ends the connection once `reply` is sent.
    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), &'static str>;
    /// Whether both sides have agreed, so that `seal` may be called.
    fn is_established(&self) -> bool;
    /// Appends to `wire` what is to be sent to say `plain`. An error resets the connection.
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str>;
    /// Appends to `wire` what says that our side ends.
    fn close(&mut self, wire: &mut Vec<u8>);
    /// What is known of the connection once both sides have agreed, asked once: texts `NAME.key=value` of printable ASCII, each
    /// ended by NUL.
    fn facts(&mut self) -> String {
        String::new()
    }
    /// Whether the peer has said that its side ends.
    fn has_peer_ended(&self) -> bool {
        false
    }
    /// Whether peers say that: then an end of the socket before it has cut the stream off.
    fn says_ends(&self) -> bool {
        false
    }
}

/// What a listener puts around its streams.
#[derive(Debug)]
pub struct Around {
    pub(super) preface: Option<Box<dyn Preface>>,
    pub(super) layer: Option<Box<dyn Layer>>,
    /// How long a connection may take to be open; where `then` is, to be identified.
    pub(super) within: Duration,
    /// How long it may take from there.
    pub(super) then: Option<Duration>,
    /// The layer has begun.
    pub(super) has_begun: bool,
    /// The layer has said that our side ends.
    pub(super) is_closed: bool,
    /// What the host has sent before the stream was open.
    pub(super) held: Vec<Chunk>,
}

/// What a preface may take, whatever it is.
pub(super) const PREFACE_BYTES_MAX: usize = 4096;
const _: () = assert!(HEADER_BYTES_MAX <= PREFACE_BYTES_MAX);

impl Around {
    /// `within`: how long a connection may take to be open.
    pub fn new(preface: Option<Box<dyn Preface>>, layer: Option<Box<dyn Layer>>, within: Duration) -> Around {
        Around { preface, layer, within, then: None, has_begun: false, is_closed: false, held: Vec::new() }
    }

    /// The layer of `around` behind another preface, which has time of its own.
    pub(crate) fn behind(preface: Box<dyn Preface>, within: Duration, around: Option<Around>) -> Around {
        let then = around.as_ref().map(|around| around.within);
        Around { then, ..Around::new(Some(preface), around.and_then(|around| around.layer), within) }
    }
}

/// A filter, as a layer.
impl Layer for FilterConn {
    fn begin(&mut self, conversation: &Conversation<'_>) -> Result<(), &'static str> {
        FilterConn::begin(self, conversation)
    }

    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        self.receive(wire, plain, reply)
    }

    fn is_established(&self) -> bool {
        FilterConn::is_established(self)
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        self.send(plain, wire)
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        self.end(wire);
    }

    fn facts(&mut self) -> String {
        FilterConn::facts(self)
    }

    fn has_peer_ended(&self) -> bool {
        FilterConn::has_peer_ended(self)
    }

    fn says_ends(&self) -> bool {
        FilterConn::says_ends(self)
    }
}

/// The filter of a listener, and how long its handshakes may take.
#[derive(Debug, Clone)]
pub(crate) struct FilterAround {
    pub(crate) instance: Arc<FilterInstance>,
    pub(crate) within: Duration,
}

impl FilterAround {
    /// Puts it around a new stream, behind what else stands before that.
    pub(crate) fn put(&self, around: Option<Around>) -> Around {
        let layer: Box<dyn Layer> = Box::new(FilterConn::new(&self.instance));
        match around {
            // One deadline for both.
            Some(Around { preface: preface @ Some(_), within, .. }) => {
                Around::new(preface, Some(layer), within.saturating_add(self.within))
            }
            _ => Around::new(None, Some(layer), self.within),
        }
    }
}

/// Makes what a listener puts around each of its streams.
#[derive(Clone)]
pub(crate) struct MakeAround {
    make: Arc<dyn Fn() -> Around + Send + Sync>,
    pub(crate) has_preface: bool,
}

impl MakeAround {
    pub(crate) fn new(make: impl Fn() -> Around + Send + Sync + 'static) -> MakeAround {
        let has_preface = make().preface.is_some();
        MakeAround { make: Arc::new(make), has_preface }
    }

    pub(crate) fn make(&self) -> Around {
        (self.make)()
    }
}

impl fmt::Debug for MakeAround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeAround").field("has_preface", &self.has_preface).finish_non_exhaustive()
    }
}
