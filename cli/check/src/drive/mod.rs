//! Calls a transform by the rules of the header, in guarded memory, and checks its replies against the rules.
//!
//! From the bottom: `call` says how a call is made, `buffers` is the memory for it, `instance` creates, `session` opens
//! sessions and makes the calls, `carry` saves and loads sessions, `subject` is the transform with its options.

mod buffers;
mod call;
mod carry;
mod instance;
mod session;
mod subject;

pub(crate) use buffers::Arena;
pub(crate) use call::{How, Place, Reply, Room};
pub(crate) use carry::{Load, Save, load, save};
pub(crate) use instance::{Instance, Refusal};
pub(crate) use session::Session;
pub(crate) use subject::Subject;
