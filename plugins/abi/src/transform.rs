//! What a transform is, in safe Rust.

use crate::abi;
use crate::error::Error;
use crate::host::{Host, Peer, Setup};
use crate::io::Io;

/// What every transform has: how an instance and a session begin. How they end is `Drop`.
///
/// An instance is called from several threads at once and never changes; what must change between messages is
/// in atomics or locks, what belongs to one conversation is in the session.
pub trait Transform: Sized + Send + Sync + 'static {
    /// What lasts from one message of a connection to the next; `()` if nothing does. It lives in the host's
    /// memory and begins as `Session::default()`. A datagram is a conversation of its own.
    type Session: Default + Send + 'static;

    /// Makes an instance. The error's text goes to whoever wrote the chain.
    fn create(setup: &Setup<'_>) -> Result<Self, Error>;

    /// A session begins. An error closes the connection, or drops the datagram.
    ///
    /// Not called where [`Session`](Self::Session) holds nothing (`()`): the host then skips sessions.
    fn open(&self, call: Call<'_, Self::Session>, peer: &Peer<'_>) -> Result<(), Error> {
        let _ = (call, peer);
        Ok(())
    }
}

/// A transform that works in place and keeps the length: the fastest sort.
pub trait Map: Transform {
    /// Transforms a message, or whatever a read of a raw stream brought. [`Status::MoreOut`] and
    /// [`Status::MoreIn`] are no answers here.
    fn map(&self, call: Call<'_, Self::Session>, data: &mut [u8]) -> Status;
}

/// A transform that grows, shrinks, splits or delays.
pub trait Process: Transform {
    /// Transforms from `io`'s input to its output.
    ///
    /// A message comes whole; a raw stream comes read by read, and at its end once more with
    /// [`Io::ends_stream`] and whatever was left unread. [`Status::Ok`] means that all input is consumed.
    fn process(&self, call: Call<'_, Self::Session>, io: &mut Io<'_>) -> Status;
}

/// What a call brings besides the data.
#[derive(Debug)]
pub struct Call<'a, S> {
    /// The session: never used by two calls at once.
    pub session: &'a mut S,
    /// The host: log and counters.
    pub host: Host<'a>,
}

/// What the host shall do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Status {
    /// Answer with the output. All input is consumed.
    Ok = abi::RESAY_OK,
    /// The output is full: take it, then call again with the rest of the input. There must be progress, or
    /// [`Io::need`] more room than there was.
    MoreOut = abi::RESAY_MORE_OUT,
    /// The input ends in the middle of something: keep what is not consumed until more comes. Only where
    /// [`Io::is_last`] is false.
    MoreIn = abi::RESAY_MORE_IN,
    /// Answer nothing.
    Drop = abi::RESAY_DROP,
    /// Answer with the output, then close the connection.
    Close = abi::RESAY_CLOSE,
    /// Close a stream at once, by RST.
    Reset = abi::RESAY_RESET,
    /// This message cannot be transformed.
    BadData = abi::RESAY_E_DATA,
    /// Memory could not be had.
    NoMemory = abi::RESAY_E_NOMEM,
    /// This is not supported, such as the kind of peer.
    Unsupported = abi::RESAY_E_UNSUPPORTED,
}

impl Status {
    /// The RESAY_ code.
    #[inline]
    pub const fn code(self) -> abi::resay_status {
        self as abi::resay_status
    }
}
