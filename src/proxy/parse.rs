//! Which version a header is of.

use super::header::{Fault, Header};
use super::{v1, v2};

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
