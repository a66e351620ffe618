//! Addresses and sockets: the URL grammar, binding and adopting, files of unix sockets, whom to let in, and what proxies say
//! of whom.

pub mod address;
pub(crate) mod guard;
pub(crate) mod proxy;
pub(crate) mod socket;
pub mod unix_file;
