//! TLS 1.2 and 1.3 for Resay, by rustls: a filter between the bytes of a socket and the stream that they carry.
//!
//! A program that links this registers [`TABLE`] with its engines; others find it as the plugin file `libtls.so`. Listeners
//! name it: `tls://:8443?cert=/etc/echo.pem&key=/etc/echo.key`.
//!
//! - `files`: certificates and keys, from files or from the option itself.
//! - `config`: the options, and what they make of rustls.
//! - `connection`: one connection.
//! - `subject`: whose a certificate is.
//! - `words`: errors in words.
#![forbid(unsafe_code)]

mod config;
mod connection;
mod files;
mod subject;
mod words;

use resay_plugin::{
    Error, Facts, Filter, FilterTable, Host, Level, Link, OptionSpec, Out, Peer, Received, Setup,
};
use rustls::ServerConfig;
use std::sync::Arc;

use connection::Connection;
pub use words::error_text;

/// The filter `tls`.
pub static TABLE: FilterTable = FilterTable::of::<Tls>(c"tls")
    .version(resay_plugin::package_version!())
    .summary(c"TLS 1.2 and 1.3")
    .options(&[
        OptionSpec::text(c"cert", c"file of a certificate and those above it, in PEM, or the PEM itself; several times: the name that a client asks for decides"),
        OptionSpec::text(c"key", c"file of its private key, or the PEM itself; empty: it is in the file of the certificate").or(c""),
        OptionSpec::text(c"client_ca", c"file of the certificates that those of clients are checked against").or(c""),
        OptionSpec::choice(c"client", c"auto|none|ask|require", c"whether clients need a certificate; auto: require with client_ca, else none")
            .or(c"auto"),
        OptionSpec::text(c"alpn", c"protocols that are offered (ALPN), the preferred first, with commas between; also several times").or(c""),
        OptionSpec::choice(c"min", c"1.2|1.3", c"oldest version of TLS").or(c"1.2"),
        OptionSpec::integer(c"tickets", c"tickets for a shorter next handshake that a client gets; 0: none")
            .or(c"2")
            .at_least(c"0")
            .at_most(c"8"),
    ])
    .ends();

/// TLS for one listener.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Filter for Tls {
    type Conn = Connection;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        config::server(&setup.options).map(|config| Tls { config: Arc::new(config) })
    }

    fn open(&self, _: Host<'_>, peer: &Peer<'_>) -> Result<Connection, Error> {
        Connection::new(Arc::clone(&self.config), peer.id())
    }

    fn receive(
        &self,
        link: Link<'_, Connection>,
        wire: &mut [u8],
        plain: &mut Out<'_>,
        reply: &mut Out<'_>,
    ) -> Result<Received, Error> {
        let received = link.conn.receive(wire, plain, reply);
        if let Err(error) = &received {
            link.host.log(Level::Info, format_args!("connection {}: {error}", link.conn.id()));
        }
        received
    }

    fn send(&self, link: Link<'_, Connection>, plain: &[u8], wire: &mut Out<'_>) -> Result<(), Error> {
        link.conn.send(plain, wire)
    }

    fn end(&self, link: Link<'_, Connection>, wire: &mut Out<'_>) -> Result<(), Error> {
        link.conn.end(wire)
    }

    fn facts(&self, link: Link<'_, Connection>, facts: &mut Facts<'_, '_>) -> Result<(), Error> {
        link.conn.facts(facts)
    }
}
