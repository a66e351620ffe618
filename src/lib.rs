//! Resay: an embeddable echo engine.
//!
//! It owns TCP, UDP and AF_UNIX sockets and the loops behind them, passes every message through a chain of
//! transforms, which are plugins behind a small C ABI, and sends the answer back to whoever sent the message.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! let engine = resay::Engine::builder().listen("tcp://127.0.0.1:0")?.chain("uppercase")?.start()?;
//! let url = &engine.urls()[0];
//! let mut peer = std::net::TcpStream::connect(url.trim_start_matches("tcp://"))?;
//! peer.write_all(b"hello")?;
//! let mut answer = [0; 5];
//! peer.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"HELLO");
//! engine.set_chain("identity")?; // live
//! engine.drain(std::time::Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `ARCHITECTURE.md` is the map of the modules.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Resay runs on Linux: it uses epoll(7), eventfd(2), UDP_GRO and, where the kernel has it, io_uring(7)"
);

mod buffer;
mod bug;
mod chain;
mod channel;
pub mod client;
mod connection;
mod context;
mod datagram;
mod driver;
mod dry_run;
mod engine;
mod error;
mod event;
#[allow(unsafe_code)] // Unsafe boundary: callers.
mod ffi;
mod frame;
/// The targets of `fuzz/`.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod later;
mod limits;
mod listener;
mod lock;
pub mod net;
mod offload;
pub mod options;
mod peer;
mod proxy;
mod signal;
mod slab;
mod stats;
#[allow(unsafe_code)] // Unsafe boundary: the kernel.
mod sys;
mod tap;
mod timer;
#[cfg(test)]
mod torture;
pub mod transform;
mod values;
mod worker;

pub use client::{Client, Received};
pub use connection::ConnectionState;
pub use dry_run::{DryRun, DryRunOutput};
pub use engine::{
    Backend, Builder, ConnectionList, Engine, HandoverStats, ListenerId, ListenerInfo, Reconfiguration,
    TapOptions, TransformInfo, WorkerInfo, transforms,
};
pub use error::{Error, Result, SpecError};
pub use event::{EVENT_TEXT_BYTES_MAX, Event, EventCause, EventKind, EventQueue, EventRecord, LogLevel};
pub use net::socket::{Handed, read_passed_sockets};
pub use options::Options;
pub use peer::{Credentials, Peer, SocketKind};
pub use stats::{CloseReason, DropReason, RejectReason, Stats};
pub use tap::{Tap, TapOutcome, TapRecord};
pub use transform::library::{
    Conversation, Filter, Function, Message, Needs, OptionHelp, Output, Transform, TransformTime, Verdict,
    running_transform,
};
pub use transform::registry::{TransformOrigin, overwritten_plugins};
pub use worker::{ConnectionInfo, TurnTimes};

/// What stands before and around streams: see [`Builder::around`]. Not a promise yet.
#[doc(hidden)]
pub mod seam {
    pub use crate::connection::{Around, Layer, Preface, PrefaceProgress};
    pub use crate::proxy::Proxied;
}

/// What `allow` and `deny` are searched with, for its benchmark.
#[doc(hidden)]
pub use net::guard::Prefixes;

/// The parser of PROXY headers, for its benchmark.
#[doc(hidden)]
pub use proxy::{ProxyVersions, parse as parse_proxy};

/// Its examples in Rust are tested with those of the documentation; the others by `tests/embed.rs`.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Guide;

/// Whether this build of the library has a feature, on the system that it runs on. `uring`: an engine on threads of its own gets
/// io_uring if it asks for it; this asks the kernel, once a process. `bundled`: the bundled transforms are linked in.
pub fn has_feature(name: &str) -> bool {
    match name {
        "uring" => engine::has_uring(),
        "bundled" => cfg!(feature = "bundled"),
        _ => false,
    }
}

/// For the C interface: the host ends the calling thread in the middle of a callback. It never returns; the engine of the
/// thread can only be dropped then. `in_call` runs where that is no thread that serves: it is inside a call of the host's, with
/// all that this has locked.
#[doc(hidden)]
pub fn lose_thread(in_call: impl FnOnce()) -> ! {
    sys::lose(in_call)
}

/// The version of this library, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
