//! What is told of one connection or datagram beside the address of its peer: by a proxy, and by the layer around a stream.

use super::header::Header;
use super::parse::{ProxyVersions, parse};
use crate::peer::Peer;

/// What a proxy has told of a connection or a datagram beside the address of the peer, and what the layer around it has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// The proxy's own address, where it has named another one for the peer.
    via: Option<Peer>,
    is_local: bool,
    /// As it came: few ask what else is in it.
    header: Box<[u8]>,
    /// Of the layer: texts, each ended by NUL.
    layer_facts: Box<str>,
}

impl Proxied {
    /// `bytes`: what the header was found in; `from`: where they come from.
    pub(crate) fn new(header: &Header<'_>, bytes: &[u8], from: &Peer) -> Proxied {
        Proxied {
            via: header.addresses.is_some().then(|| from.clone()),
            is_local: header.is_local,
            header: bytes.get(..header.len).unwrap_or_default().into(),
            layer_facts: Box::default(),
        }
    }

    /// The same with what the layer tells, which knows it later; `None`: there is no proxy.
    pub(crate) fn with_layer(proxied: Option<&Proxied>, facts: String) -> Proxied {
        let none =
            || Proxied { via: None, is_local: false, header: Box::default(), layer_facts: Box::default() };
        Proxied { layer_facts: facts.into(), ..proxied.cloned().unwrap_or_else(none) }
    }

    /// The proxy's own address, where it has named another one for the peer.
    pub(crate) fn via(&self) -> Option<&Peer> {
        self.via.as_ref()
    }

    /// The proxy speaks for itself.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// See [`Header::facts`]; those of the layer come last.
    pub(crate) fn facts(&self) -> String {
        let mut facts = match parse(&self.header, ProxyVersions::Any) {
            Ok(Some(header)) => header.facts(),
            _ => "\0".to_owned(),
        };
        facts.pop();
        facts + &self.layer_facts + "\0"
    }

    /// The same as keys and values.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let facts = self.facts();
        let pairs = facts.split('\0').filter_map(|fact| fact.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}
