//! What a proxy has told of one connection or datagram.

use super::header::Header;
use super::parse::{ProxyVersions, parse};
use crate::peer::Peer;

/// What a proxy has told of a connection or a datagram, beside the address of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// The proxy's own address, where it has named another one for the peer.
    via: Option<Peer>,
    is_local: bool,
    /// As it came: few ask what else is in it.
    header: Box<[u8]>,
}

impl Proxied {
    /// `bytes`: what the header was found in; `from`: where they come from.
    pub(crate) fn new(header: &Header<'_>, bytes: &[u8], from: &Peer) -> Proxied {
        Proxied {
            via: header.addresses.is_some().then(|| from.clone()),
            is_local: header.is_local,
            header: bytes.get(..header.len).unwrap_or_default().into(),
        }
    }

    /// The proxy's own address, where it has named another one for the peer.
    pub(crate) fn via(&self) -> Option<&Peer> {
        self.via.as_ref()
    }

    /// The proxy speaks for itself.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// See [`Header::facts`].
    pub(crate) fn facts(&self) -> String {
        match parse(&self.header, ProxyVersions::Any) {
            Ok(Some(header)) => header.facts(),
            _ => "\0".to_owned(),
        }
    }
}
