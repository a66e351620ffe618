//! The options, and what they make of rustls.

use resay_plugin::{Error, Options};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::cell::Cell;
use std::sync::Arc;

use crate::files::Source;
use crate::words::error_text;

/// A protocol's name has one byte for its length (RFC 7301).
const PROTOCOL_BYTES_MAX: usize = 255;

/// Reads the options of a listener, and the files that they name.
pub(crate) fn server(options: &Options<'_>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates { all: certificates(options, &provider)? };
    let tickets: usize = options.integer("tickets")?;
    let wrong = |error: rustls::Error| Error::config(error_text(&error));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(options)?)
        .map_err(wrong)?
        .with_client_cert_verifier(clients(options, &provider)?)
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = protocols(options)?;
    // A ticket holds all that the server has to know: nothing is remembered of clients that are gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = tickets;
    if tickets > 0 {
        config.ticketer = ring::Ticketer::new().map_err(wrong)?;
    }
    Ok(config)
}

fn versions(options: &Options<'_>) -> Result<&'static [&'static SupportedProtocolVersion], Error> {
    let has_only_13 = options.choice("min", &[("1.2", false), ("1.3", true)])?;
    #[cfg(feature = "tls12")]
    if !has_only_13 {
        return Ok(rustls::ALL_VERSIONS);
    }
    #[cfg(not(feature = "tls12"))]
    if !has_only_13 && options.given("min").is_some() {
        return Err(Error::config("option 'min': TLS 1.2 is not compiled in"));
    }
    static ONLY_13: &[&SupportedProtocolVersion] = &[&version::TLS13];
    Ok(ONLY_13)
}

/// The certificates with their keys, the first first.
fn certificates(options: &Options<'_>, provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, Error> {
    // The text of the error where there is none.
    options.bytes("cert")?;
    let (certificates, keys) = (options.all("cert"), options.all("key"));
    if !keys.is_empty() && keys.len() != certificates.len() {
        return Err(Error::config(format!(
            "option 'key' is given {} times, 'cert' {} times: each certificate has a key, in the same order",
            keys.len(),
            certificates.len()
        )));
    }
    let mut all = Vec::with_capacity(certificates.len());
    for (index, certificate) in certificates.iter().enumerate() {
        let own_key = keys.get(index).copied().filter(|key| !key.is_empty());
        let source = Source::read("cert", certificate, own_key.is_none())?;
        let chain = source.certificates()?;
        let key = match own_key {
            Some(key) => Source::read("key", key, true)?.private_key()?,
            None => source.private_key()?,
        };
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| source.wrong(&format!("does not go with its key: {}", error_text(&error))))?;
        all.push(Arc::new(certified));
    }
    Ok(all)
}

/// How clients are to show who they are.
fn clients(
    options: &Options<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let authorities = options.bytes("client_ca")?;
    let asked = [
        ("auto", None),
        ("none", Some(Ask::Not)),
        ("ask", Some(Ask::Politely)),
        ("require", Some(Ask::Firmly)),
    ];
    let default = if authorities.is_empty() { Ask::Not } else { Ask::Firmly };
    let ask = options.choice("client", &asked)?.unwrap_or(default);
    if ask == Ask::Not {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    if authorities.is_empty() {
        return Err(Error::config(
            "option 'client' needs client_ca, to check the certificates of clients against",
        ));
    }
    let source = Source::read("client_ca", authorities, false)?;
    let mut roots = RootCertStore::empty();
    for certificate in source.certificates()? {
        roots.add(certificate).map_err(|error| source.wrong(&error_text(&error)))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if ask == Ask::Politely { builder.allow_unauthenticated() } else { builder };
    let built = builder.build().map_err(|error| source.wrong(&error.to_string()))?;
    Ok(built)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Not,
    /// One that shows none is served too.
    Politely,
    Firmly,
}

fn protocols(options: &Options<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut protocols = Vec::new();
    for given in options.all("alpn") {
        for name in given.split(|byte| *byte == b',').filter(|_| !given.is_empty()) {
            if name.is_empty() || name.len() > PROTOCOL_BYTES_MAX {
                return Err(options.refused("alpn", "names of 1 to 255 bytes with commas between"));
            }
            protocols.push(name.to_vec());
        }
    }
    Ok(protocols)
}

thread_local! {
    /// The name that the client asks for whose first message this thread has just read. A connection without buffers of its own does
    /// not tell it in rustls; whoever chooses a certificate is told on the thread that gave the message to the connection.
    static ASKED_NAME: Cell<Option<String>> = const { Cell::new(None) };
}

/// The name that a client has asked for in what was just read on this thread, once.
pub(crate) fn take_asked_name() -> Option<String> {
    ASKED_NAME.take()
}

/// Chooses by the name that a client asks for, and by the kinds of signature that it knows.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_NAME.set(hello.server_name().map(str::to_owned));
        let can_sign = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let usable = || self.all.iter().filter(can_sign);
        let first = usable().next()?;
        if self.all.len() == 1 {
            return Some(Arc::clone(first));
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let certificate =
                key.end_entity_cert().ok().and_then(|der| ParsedCertificate::try_from(der).ok());
            name.as_ref()
                .zip(certificate)
                .is_some_and(|(name, certificate)| verify_server_name(&certificate, name).is_ok())
        };
        Some(Arc::clone(usable().find(is_for).unwrap_or(first)))
    }
}
