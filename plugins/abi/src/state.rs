//! Carrying a session over a swap of the chain: the extension "resay.session-state/1".

use crate::abi;
use crate::error::Error;
use crate::io::Io;
use crate::shim;
use crate::transform::{Status, Transform};
use core::ffi::CStr;
use core::mem::size_of;

/// A transform whose sessions survive a swap of the chain under a living connection. Without it, a
/// connection with a session keeps its old chain until it closes.
pub trait Carry: Transform {
    /// Names the format that [`save`](Self::save) writes, such as `acme.counter/2`. Change it with the format.
    const SCHEMA: &'static CStr;

    /// Writes the session's state to `io`, whose input is empty.
    fn save(&self, session: &Self::Session, io: &mut Io<'_>) -> Status;

    /// Sets a session that was just opened to a state that an instance, maybe of another version, saved. An
    /// error keeps the connection on its old chain.
    fn load(&self, session: &mut Self::Session, schema: &CStr, state: &[u8]) -> Result<(), Error>;
}

pub(crate) const fn table<T: Carry>() -> abi::resay_session_state {
    abi::resay_session_state {
        struct_size: size_of::<abi::resay_session_state>() as u32,
        schema: T::SCHEMA.as_ptr(),
        save: Some(shim::save::<T>),
        load: Some(shim::load::<T>),
    }
}
