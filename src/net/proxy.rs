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
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

#[cfg(any(test, fuzzing))]
pub(crate) use header::HEADER_BYTES_MAX;
pub(crate) use header::{Fault, Header};

/// Which headers are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersions {
    /// Text.
    V1,
    /// Binary; the only one for datagrams.
    V2,
    /// Either.
    Any,
}

/// Looks for a header in all bytes that have come so far. `None`: more have to come.
pub fn parse(bytes: &[u8], versions: ProxyVersions) -> Result<Option<Header<'_>>, Fault> {
    match (versions, bytes.first()) {
        (_, None) => Ok(None),
        (ProxyVersions::V1, _) => v1::parse(bytes, Fault::NoVersion1),
        (ProxyVersions::V2, _) => v2::parse(bytes, Fault::NoVersion2),
        (ProxyVersions::Any, Some(b'P')) => v1::parse(bytes, Fault::NoHeader),
        (ProxyVersions::Any, Some(_)) => v2::parse(bytes, Fault::NoHeader),
    }
}
