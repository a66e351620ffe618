//! Unsafe boundary: plugins. The ABI table of `resay_plugin.h` as values that safe code can call.
//!
//! - [`Table`]: one transform as a library, or the host, offers it, checked once.
//! - [`Instance`]: a created one, with its options and what the host offers it.
//! - `PluginLibrary`: what the instances of one file share, `init()` and `shutdown()`.
//! - [`Stages`]: the instances of a chain, in order, and the layout of a session's memory.
//! - [`Session`]: that memory for one conversation; the calls `map` and `process` are made through it.
//! - [`load`]: dlopen of a plugin file. A library is never closed: a table, once seen, stays valid.
//! - [`own_library`]: the library that the engine itself is in.
//!
//! What the other side may not do is checked here where it can be seen (statuses, lengths); its own memory
//! errors cannot.

mod beside;
mod function;
mod host;
mod instance;
mod lifecycle;
mod load;
mod own;
mod running;
mod session;
mod status;
mod table;
mod text;

pub use function::{Output, Verdict};
pub(crate) use host::{Counters, Services};
pub(crate) use instance::Instance;
pub(crate) use load::{Change, Loaded, NO_ENTRY, bundled, load};
pub(crate) use own::own_library;
pub use running::running_transform;
pub(crate) use session::{MapStopped, Session, SessionPeer, Stages};
pub(crate) use status::{Fault, Status};
pub(crate) use table::Table;
pub use table::{OptionHelp, Transform};
