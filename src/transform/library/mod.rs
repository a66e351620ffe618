//! Unsafe boundary: plugins. The ABI table of `resay_plugin.h` as values that safe code can call.
//!
//! - [`Table`]: one transform as a library, or the host, offers it in a table, checked once.
//! - [`HostFunction`](function::HostFunction): a function of the host's, called straight; [`Output`] what it answers with.
//! - [`Callee`]: one or the other.
//! - [`Instance`]: a created one, with its options and what the host offers it.
//! - `PluginLibrary`: what the instances of one file share, `init()` and `shutdown()`.
//! - [`Stages`]: the instances of a chain, in order, and the layout of a session's memory.
//! - [`Session`]: that memory for one conversation; the calls `map` and `process` are made through it.
//! - [`Filter`]: a table of the other kind, which stands between a socket and its stream; [`FilterInstance`] a created one,
//!   [`FilterConn`] a connection in it.
//! - [`load`]: dlopen of a plugin file. A library is never closed: a table, once seen, stays valid.
//! - [`own_library`]: the library that the engine itself is in.
//!
//! What the other side may not do is checked here where it can be seen (statuses, lengths); its own memory
//! errors cannot.

mod beside;
mod callee;
mod conversation;
mod filter;
mod function;
mod host;
mod instance;
mod lifecycle;
mod load;
mod output;
mod own;
mod running;
mod session;
mod status;
mod table;
mod text;
mod times;

pub(crate) use callee::Callee;
pub use callee::Transform;
pub use conversation::Conversation;
pub(crate) use conversation::LocalEnd;
pub use filter::Filter;
pub(crate) use filter::{FilterConn, FilterInstance, FilterTable};
pub(crate) use function::Called;
pub use function::{Function, Message, Needs};
pub(crate) use host::{Counters, Services};
pub(crate) use instance::Instance;
pub(crate) use load::{Change, Contents, Loaded, NO_ENTRY, bundled, load};
pub(crate) use output::CallContext;
pub use output::{Output, Verdict};
pub(crate) use own::own_library;
pub use running::running_transform;
pub(crate) use running::{RunningThread, watched};
pub(crate) use session::calls::MapStopped;
pub(crate) use session::{Session, Stages};
pub(crate) use status::{Fault, Status};
pub use table::OptionHelp;
pub(crate) use table::Table;
pub use times::TransformTime;
