//! Addresses and sockets: the URL grammar, binding and adopting, whom to let in.

pub mod address;
pub(crate) mod guard;
pub(crate) mod socket;
