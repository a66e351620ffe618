//! Addresses and sockets: the URL grammar, binding and adopting.

pub mod address;
pub(crate) mod socket;
