//! The engine: configure, start, swap, drain, stop. It owns the workers and whatever threads run them.

mod after_fork;
mod answers;
mod asking;
mod backend;
mod builder;
mod carried_over;
mod chains;
mod closing;
mod connections;
mod handover;
mod inherited_fds;
mod listeners;
mod observing;
mod reconfigure;
mod run;
mod settings;
mod state;
mod statistics;
mod stop;
mod taken;
mod threads;
mod transforms;
mod watchdog;

pub use backend::Backend;
pub(crate) use backend::has_uring;
pub use builder::Builder;
pub use carried_over::HandoverStats;
pub use listeners::{ListenerId, ListenerInfo};
pub use observing::TapOptions;
pub use reconfigure::Reconfiguration;
pub use state::Engine;
pub use statistics::{ConnectionList, WorkerInfo};
pub use transforms::{TransformInfo, transforms};
