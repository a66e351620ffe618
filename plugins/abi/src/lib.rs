//! Write a transform for Resay, the echo engine that you link, in safe Rust.
//!
//! A transform changes messages on their way back to whoever sent them. This is a whole one:
//!
//! ```
//! use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};
//!
//! struct Flip;
//!
//! impl Transform for Flip {
//!     type Session = ();
//!     fn create(_: &Setup<'_>) -> Result<Self, Error> {
//!         Ok(Flip)
//!     }
//! }
//!
//! impl Map for Flip {
//!     fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
//!         data.iter_mut().for_each(|byte| *byte ^= 0x20);
//!         Status::Ok
//!     }
//! }
//!
//! static FLIP: Table = Table::map::<Flip>(c"flip").version(c"1.0.0").bytewise().build();
//! resay_plugin::export!(FLIP); // in a crate of type cdylib
//!
//! let flip = resay_plugin::harness::Harness::new(&FLIP, &[])?;
//! assert_eq!(flip.message(b"Hello")?, b"hELLO");
//! # Ok::<(), resay_plugin::Error>(())
//! ```
//!
//! - [`Map`] works in place; [`Process`] grows, shrinks, splits and delays.
//! - [`Table`] describes a transform: its promises, its needs, its [options](OptionSpec).
//! - [`Transform::Session`] is what one conversation remembers; it lives in the host's memory.
//! - [`dice`] are for faults by chance that the same seed repeats; [`Limits`] end a conversation.
//! - [`harness`] drives a table as a host does and checks what it does: for the tests of a plugin.
//!
//! No unsafe code is needed, and none is reached by safe code that is wrong: a panic fails the message and
//! costs the instance, not the process.
//!
//! The map of the crate: [`abi`] is the boundary itself, from which the C header is generated, and [`growing`]
//! reads structs of other revisions. `shim` makes the C functions of a transform; all else is safe to use.

pub mod abi;
pub mod dice;
pub mod growing;
pub mod harness;

mod error;
mod host;
mod io;
mod limits;
mod options;
mod shim;
mod state;
mod table;
mod transform;
mod vectors;

pub use error::Error;
pub use host::{Counter, Host, Level, Peer, PeerKind, Setup};
pub use io::Io;
pub use limits::{Limits, Tally};
pub use options::{OptionSpec, Options};
pub use state::Carry;
pub use table::{Draft, Library, Table};
pub use transform::{Call, Map, Process, Status, Transform};
pub use vectors::with_widest_vectors;
