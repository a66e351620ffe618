//! A tap: what became of every message, in records that its owner reads when it likes.
//!
//! ```text
//!   worker ── Recorder ──┬──> Ring of a tap ──> Tap::read
//!   worker ── Recorder ──┤
//!                        └──> Ring of another tap
//! ```
//!
//! A worker writes the record before it hands the answer to the kernel: whoever has read an answer finds the record of its
//! message. A record that finds no room in the ring is counted and lost; no worker ever waits. While no tap is open, a read
//! costs one load and one branch.
//!
//! A tap lives for itself. It can be read when its engine has ended, and be closed before or after that.

mod channel;
mod reader;
mod record;
mod recorder;
mod registry;
mod ring;

pub(crate) use channel::Settings;
pub use reader::Tap;
pub(crate) use record::Recorded;
pub use record::{TapOutcome, TapRecord};
pub(crate) use recorder::{Collected, KeptMessage, Recorder};
pub(crate) use registry::Taps;

#[cfg(test)]
mod tests;
