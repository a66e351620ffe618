//! What a host is told of a connection.

use std::time::Duration;

use crate::connection::ConnectionState;
use crate::listener::ListenerId;
use crate::peer::{Credentials, Peer, SocketKind};

/// A connection as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number in this process, from 1: no listener has it, and no connection of another engine.
    pub id: u64,
    /// The URL of its listener.
    pub listener: String,
    /// Its listener, which may be closed by now.
    pub listener_id: ListenerId,
    /// The kind of its socket.
    pub kind: SocketKind,
    /// The other side; of a connection over a proxy (option `proxy`), whom the proxy has named.
    pub peer: Peer,
    /// The address of that proxy.
    pub via: Option<Peer>,
    /// What else a proxy says, and what the listener's filter tells: see
    /// [`Conversation::facts`](crate::Conversation::facts).
    pub facts: Vec<(String, String)>,
    /// Our side's address.
    pub local: Option<Peer>,
    /// Whose process the peer is, where it is a unix socket.
    pub credentials: Option<Credentials>,
    /// The worker that serves it.
    pub worker: usize,
    /// How long ago it last received something, or was accepted.
    pub idle: Duration,
    /// Bytes of answers that wait for the peer to read, or for their time.
    pub waiting_bytes: usize,
    /// Bytes that its peer has sent.
    pub bytes_in: u64,
    /// Bytes that the kernel has taken for its peer.
    pub bytes_out: u64,
    /// How far it is.
    pub state: ConnectionState,
    /// The host has stopped its reading, or its listener's.
    pub is_paused: bool,
}
