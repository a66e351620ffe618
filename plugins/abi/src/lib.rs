//! Write a transform for Resay, the echo engine that you link, in safe Rust.
//!
//! A transform changes messages on their way back to the sender. A complete one:
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
//! - [`Transform::Session`] is the state of one connection; it lives in the host's memory.
//! - [`dice`] decides random faults, the same for each run with one seed; [`Limits`] ends a connection.
//! - [`environment`] reads variables as a program with more rights than its caller must.
//! - [`Filter`] stands between a socket and its stream, both ways, such as TLS; [`FilterTable`] describes it.
//! - [`harness`] calls a table as a host does and checks its behaviour: for the tests of a plugin.
//!
//! A plugin needs no unsafe code, and wrong safe code cannot break the host: if a plugin panics, that message fails
//! and the instance is disabled; the process keeps running. The panic is a line in the host's log, once for each instance.
//!
//! The modules: [`abi`] is the ABI, from which the C header is generated. [`growing`] reads structs of other minor
//! versions; [`file`](mod@file) and [`inspect`] look at plugin files and tables for hosts. `shim` makes the C functions of a transform, `panics` takes what a
//! panic says. The rest is safe Rust.

pub mod abi;
pub mod dice;
pub mod environment;
pub mod file;
pub mod growing;
pub mod harness;
pub mod inspect;
mod instance;

mod error;
mod filter;
mod host;
mod io;
mod limits;
mod options;
mod panics;
mod shim;
mod state;
mod table;
mod transform;
mod vectors;

pub use error::Error;
pub use filter::{Facts, Filter, FilterTable, Link, Out, Received};
pub use host::{Counter, Host, Level, Peer, PeerKind, Setup, Thread};
pub use io::Io;
pub use limits::{Limits, Tally};
pub use options::{OptionSpec, Options};
pub use state::Carry;
pub use table::{Draft, Library, Table};
pub use transform::{Call, Lifecycle, Map, Process, Status, Transform};
pub use vectors::with_widest_vectors;
