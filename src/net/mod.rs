//! Addresses and sockets: the URL grammar, binding and adopting, files of unix sockets, whom to let in.

pub mod address;
pub(crate) mod guard;
pub(crate) mod socket;
pub mod unix_file;
