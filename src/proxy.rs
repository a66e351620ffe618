//! The header of the PROXY protocol, in which a balancer says whose connection or datagram it passes on: versions 1 and 2
//! of HAProxy's `doc/proxy-protocol.txt`. Sans-IO: bytes in, a header out.
//!
//! ```text
//! version 1   PROXY TCP4 192.0.2.7 198.51.100.1 50312 443 CR LF                      at most 107 bytes
//! version 2   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | 21 | 11 | length | addresses | TLVs
//!             signature                      command   protocol        what `length` counts
//! ```
//!
//! [`parse`] is strict: what the specification does not allow is a [`Fault`], each of its own. It decides by the first bytes
//! that can decide: however the input is cut, the result is the same.

mod crc32c;
mod facts;
mod header;
mod parse;
mod proxied;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

pub(crate) use header::{Fault, HEADER_BYTES_MAX};
pub use parse::{ProxyVersions, parse};
pub use proxied::Proxied;
