//! The traits of a transform, in safe Rust.

use crate::abi;
use crate::error::Error;
use crate::host::{Host, Peer, Setup};
use crate::io::Io;
use std::path::Path;

/// The common part of every transform: how an instance and a session begin. They end with `Drop`.
///
/// Several threads call an instance at once, and it is immutable. Keep state that changes between messages in atomics
/// or locks, and the state of one connection in the session.
pub trait Transform: Sized + Send + Sync + 'static {
    /// The state of one connection between its messages; `()` for none. It lives in the host's memory and begins as
    /// `Session::default()`. Each datagram has a session of its own.
    type Session: Default + Send + 'static;

    /// Creates an instance. The author of the chain sees the text of the error.
    fn create(setup: &Setup<'_>) -> Result<Self, Error>;

    /// Opens a session. An error closes the connection, or drops the datagram.
    ///
    /// Not called if [`Session`](Self::Session) is empty (`()`): then the host keeps no sessions.
    fn open(&self, call: Call<'_, Self::Session>, peer: &Peer<'_>) -> Result<(), Error> {
        let _ = (call, peer);
        Ok(())
    }
}

/// A transform that works in place and keeps the length: the fastest kind.
pub trait Map: Transform {
    /// Transforms a message, or the bytes of one read of a raw stream. [`Status::MoreOut`] and [`Status::MoreIn`]
    /// are not allowed here.
    fn map(&self, call: Call<'_, Self::Session>, data: &mut [u8]) -> Status;
}

/// A transform that grows, shrinks, splits or delays.
pub trait Process: Transform {
    /// Transforms the input of `io` to its output.
    ///
    /// Each call has a whole message, or one read of a raw stream. At the end of a raw stream there is one more call
    /// with [`Io::ends_stream`] and the input that is left. [`Status::Ok`] means that all input is consumed.
    fn process(&self, call: Call<'_, Self::Session>, io: &mut Io<'_>) -> Status;
}

/// What a library does before its first instance is created, and after its last is destroyed: threads, files and memory
/// that its instances share. Both may happen several times, in turn.
///
/// ```
/// use resay_plugin::{Error, Lifecycle};
/// use std::path::Path;
/// use std::sync::Mutex;
///
/// static WORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());
///
/// struct Words;
///
/// impl Lifecycle for Words {
///     fn init(path: &Path) -> Result<(), Error> {
///         // What is installed beside the plugin.
///         let file = path.with_file_name("words.txt");
///         let text = std::fs::read_to_string(&file)
///             .map_err(|error| Error::config(format!("{}: {error}", file.display())))?;
///         *WORDS.lock().unwrap() = text.lines().map(str::to_owned).collect();
///         Ok(())
///     }
///
///     fn shutdown() {
///         WORDS.lock().unwrap().clear();
///     }
/// }
/// // resay_plugin::export!(TABLE; lifecycle = Words);
/// ```
pub trait Lifecycle: 'static {
    /// Called before the first instance is created, with the absolute path of the library's file. After an error no
    /// instance is created.
    fn init(path: &Path) -> Result<(), Error> {
        let _ = path;
        Ok(())
    }

    /// Called after the last instance is destroyed. (Not if the process ends before.)
    fn shutdown() {}
}

/// Nothing to do.
impl Lifecycle for () {}

/// The context of a call.
#[derive(Debug)]
pub struct Call<'a, S> {
    /// The session; no two calls use it at once.
    pub session: &'a mut S,
    /// The host: log and counters.
    pub host: Host<'a>,
}

/// What the host does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Status {
    /// Send the output. All input is consumed.
    Ok = abi::RESAY_OK,
    /// The output buffer is full: the host takes the output, then calls again with the rest of the input. Each call
    /// must make progress, or [`Io::need`] a larger buffer.
    MoreOut = abi::RESAY_MORE_OUT,
    /// The input is incomplete: the host keeps the rest of it until more input arrives. Only if [`Io::is_last`] is
    /// false.
    MoreIn = abi::RESAY_MORE_IN,
    /// Send no answer.
    Drop = abi::RESAY_DROP,
    /// Send the output, then close the connection.
    Close = abi::RESAY_CLOSE,
    /// Close a stream at once, with RST.
    Reset = abi::RESAY_RESET,
    /// The message cannot be transformed.
    BadData = abi::RESAY_E_DATA,
    /// Out of memory.
    NoMemory = abi::RESAY_E_NOMEM,
    /// Not supported, such as the kind of peer.
    Unsupported = abi::RESAY_E_UNSUPPORTED,
}

impl Status {
    /// The RESAY_ code.
    #[inline]
    pub const fn code(self) -> abi::resay_status {
        self as abi::resay_status
    }
}
