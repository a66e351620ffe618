//! Whom transforms work for: one peer of one listener.

use crate::peer::{Peer, SocketKind};
use crate::proxy::Proxied;

/// Our end of all conversations of one listener.
#[derive(Debug, Clone)]
pub(crate) struct LocalEnd {
    pub(crate) kind: SocketKind,
    pub(crate) url: String,
    /// The listener's number.
    pub(crate) listener: u64,
    /// What the listener's socket is bound to.
    pub(crate) address: Peer,
    /// Bytes of one answer.
    pub(crate) answer_bytes_max: usize,
}

/// A connection, or a datagram and its sender, as a function of the host sees it.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    pub(crate) local: &'a LocalEnd,
    pub(crate) peer: &'a Peer,
    pub(crate) proxied: Option<&'a Proxied>,
    pub(crate) id: u64,
}

impl<'a> Conversation<'a> {
    /// The kind of the socket.
    pub fn kind(&self) -> SocketKind {
        self.local.kind
    }

    /// The number of the connection, which no other one of the engine has; 0 for a datagram.
    pub fn connection(&self) -> u64 {
        self.id
    }

    /// The number of the listener: see `ListenerId::from_number`. 0 in a dry run.
    pub fn listener(&self) -> u64 {
        self.local.listener
    }

    /// The URL of the listener, with its real port.
    pub fn url(&self) -> &'a str {
        &self.local.url
    }

    /// The other side's address.
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// The address of the proxy that has named the peer (option `proxy`); `None`: none has.
    pub fn via(&self) -> Option<&'a Peer> {
        self.proxied?.via()
    }

    /// What else a proxy has said, for example `unique_id` and `authority`, and what the listener's filter tells, whose keys begin
    /// with its name, for example `tls.version`; nothing where there is neither. Bytes that are not printable ASCII are escaped
    /// (`\xNN`), and so are `\`, `'` and `"`.
    pub fn facts(&self) -> Vec<(String, String)> {
        self.proxied.map_or(Vec::new(), Proxied::pairs)
    }

    /// The same as texts `key=value`, each ended by NUL, and a further NUL.
    #[doc(hidden)]
    pub fn facts_text(&self) -> Option<String> {
        self.proxied.map(Proxied::facts)
    }

    /// The address that the listener is bound to, which may be a wildcard.
    pub fn local(&self) -> &'a Peer {
        &self.local.address
    }
}
