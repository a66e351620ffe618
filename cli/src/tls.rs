//! The command as a client of TLS: the arguments for it, and a connection that is one of TLS or a plain one.

mod arguments;
#[cfg(feature = "tls")]
mod client;
#[cfg(not(feature = "tls"))]
mod none;

use std::time::Duration;

use resay::net::address::{Address, Host};
use resay::{Client, Error, SocketKind};
use resay_load::Socket;

use crate::exit::{Exit, Failure};

pub(crate) use arguments::TlsArguments;
#[cfg(feature = "tls")]
pub(crate) use client::{Tls, TlsClient};
#[cfg(not(feature = "tls"))]
pub(crate) use none::{Tls, TlsClient};

impl TlsArguments {
    /// What TLS needs to know, if this URL is one of TLS.
    pub(crate) fn of(&self, url: &str) -> Result<Option<Tls>, Failure> {
        let address: Address = url.parse()?;
        let Address::Tls(stream) = &address else {
            let given = [self.ca.is_some(), self.insecure, self.cert.is_some(), self.sni.is_some()];
            if given.contains(&true) {
                let text =
                    format!("{url}: --ca, --insecure, --cert, --key and --sni are for tls: and unix+tls:");
                return Err(Failure::new(Exit::Usage, text));
            }
            return Ok(None);
        };
        let name = match (&self.sni, &**stream) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp(endpoint)) => match &endpoint.host {
                Host::V6(address, _) => address.to_string(),
                Host::Any => "localhost".to_owned(),
                host => host.to_string(),
            },
            (None, _) => "localhost".to_owned(),
        };
        Tls::new(self, &name).map(Some)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) enum Peer {
    Plain(Client),
    Tls(Box<TlsClient>),
}

impl Peer {
    /// Connects and, with TLS, shakes hands, at most for `timeout` each.
    pub(crate) fn open(url: &str, tls: Option<&Tls>, timeout: Option<Duration>) -> Result<Peer, Error> {
        let Some(tls) = tls else { return Client::open(url, timeout).map(Peer::Plain) };
        let address: Address = url.parse()?;
        let client = Client::open(&address.stream().to_string(), timeout)?;
        TlsClient::new(client, tls, url, timeout).map(Box::new).map(Peer::Tls)
    }

    pub(crate) fn kind(&self) -> SocketKind {
        self.socket().kind()
    }

    pub(crate) fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
        match self {
            Peer::Plain(client) => client.send(data, timeout),
            Peer::Tls(client) => client.send(data, timeout),
        }
    }

    pub(crate) fn recv(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize, Error> {
        match self {
            Peer::Plain(client) => client.recv(buffer, timeout),
            Peer::Tls(client) => client.recv(buffer, timeout),
        }
    }

    pub(crate) fn shutdown(&self) -> Result<(), Error> {
        match self {
            Peer::Plain(client) => client.shutdown(),
            Peer::Tls(client) => client.shutdown(),
        }
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_gone(&self) -> bool {
        self.socket().is_gone()
    }

    /// The socket, and with TLS what seals it.
    pub(crate) fn into_socket(self) -> Socket {
        match self {
            Peer::Plain(client) => Socket::Plain(client.into()),
            Peer::Tls(client) => client.into_socket(),
        }
    }

    fn socket(&self) -> &Client {
        match self {
            Peer::Plain(client) => client,
            Peer::Tls(client) => client.socket(),
        }
    }
}
