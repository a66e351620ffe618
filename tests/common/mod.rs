//! What the integration tests share: isolation, transports, peers, engines under watch.
//!
//! Every test runs in a process of its own ([`isolated`]): it starts this very test binary again for the one
//! test. So a test may count the process's descriptors and threads, set limits, the umask or signal actions,
//! and nothing that runs beside it is in the figures. When the test's body is over, descriptors and threads
//! are back to their number before, and nothing has panicked on any thread.
// Each test binary uses some of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod engine;
pub(crate) mod heap;
mod isolation;
pub(crate) mod layer;
mod offloaded;
mod peer;
pub(crate) mod plugin;
mod process;
mod sockets;
mod system;
mod transport;
mod waiting;

pub(crate) use engine::{Log, assert_answers, balanced, directory, engine_builder, finish, serve};
pub(crate) use isolation::{
    descriptors, expect_panics, isolated, isolated_on_all_at_once, isolated_on_each, isolated_with, skipped,
};
pub(crate) use offloaded::OFFLOADED;
pub(crate) use peer::{Peer, assert_same, exchange, noise, send_descriptor, send_flags, try_send_descriptor};
pub(crate) use process::{Helper, Process, role, say, told};
pub(crate) use sockets::{
    accepted_end, ip, opened, option, own_network, send_cut, status_flags, try_set_option, url_of,
};
pub(crate) use system::{
    SO_PASSRIGHTS, can_refuse_descriptors, forget_how_to_refuse_descriptors, memory_figure, processor_time,
    raise_descriptor_limit, refuse_call, set_descriptor_limit,
};
pub(crate) use transport::{Transport, abstract_name, address_of, file_address, has_ipv6, port_of, text};
pub(crate) use waiting::{PATIENCE, eventually, eventually_stats, pace};
