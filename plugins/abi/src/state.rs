//! Carrying a session over when a chain is replaced: the extension "resay.session-state/1".

use crate::error::Error;
use crate::io::Io;
use crate::transform::{Status, Transform};
use core::ffi::CStr;

/// A transform whose sessions survive when the chain of an open connection is replaced. Without this trait, a connection
/// with a session keeps its old chain until it closes.
pub trait Carry: Transform {
    /// Names the format that [`save`](Self::save) writes, such as `acme.counter/2`. Change it with the format.
    const SCHEMA: &'static CStr;

    /// Writes the session's state to `io`, whose input is empty.
    fn save(&self, session: &Self::Session, io: &mut Io<'_>) -> Status;

    /// Restores a state, saved by an instance of possibly another version, into a session that was just opened. After an
    /// error the connection keeps its old chain.
    fn load(&self, session: &mut Self::Session, schema: &CStr, state: &[u8]) -> Result<(), Error>;
}
