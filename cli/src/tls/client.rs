//! A client by rustls.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resay::{Client, Error};
use resay_load::{Socket, TlsRecords, TlsState};
use resay_tls::error_text;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::arguments::TlsArguments;
use crate::exit::{Exit, Failure};
use crate::lock::lock;

/// What one receive of the socket may bring.
const WIRE_BYTES: usize = 64 << 10;

/// How to speak TLS with a server.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(arguments: &TlsArguments, name: &str) -> Result<Tls, Failure> {
        let usage = |text: String| Failure::new(Exit::Usage, text);
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| usage(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier(arguments, provider)?);
        let config = match &arguments.cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let key = arguments.key.as_ref().unwrap_or(cert);
                let failed = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
                    usage(format!("--{what} {}: {error}", path.display()))
                };
                let chain = certificates("cert", cert)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("key", key, &error))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| failed("cert", cert, &error_text(&error)))?
            }
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            usage(format!("{name:?} is no name of a server: say which one it has with --sni"))
        })?;
        Ok(Tls { config: Arc::new(config), name })
    }
}

/// Who decides whether a server is the right one.
fn verifier(
    arguments: &TlsArguments,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Failure> {
    if arguments.insecure {
        return Ok(Arc::new(Anyone(provider)));
    }
    let mut roots = RootCertStore::empty();
    match &arguments.ca {
        Some(path) => {
            for certificate in certificates("ca", path)? {
                roots.add(certificate).map_err(|error| {
                    Failure::new(Exit::Usage, format!("--ca {}: {}", path.display(), error_text(&error)))
                })?;
            }
        }
        // What of the system's cannot be read is as if it were not there.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let text = "the system has no certificates to check the server's against: use --ca or --insecure";
        return Err(Failure::new(Exit::Usage, text));
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map(|verifier| verifier as _).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("--{what} {}: {error}", path.display()))
    };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| failed(&error));
    match found {
        Ok(found) if found.is_empty() => Err(failed(&"has no certificate in PEM")),
        found => found,
    }
}

/// `--insecure`: every certificate will do. What is signed with it is checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that one thread may send on while another receives.
#[derive(Debug)]
pub(crate) struct TlsClient {
    socket: Client,
    url: String,
    tls: Mutex<TlsState>,
    /// Held by whoever sends, so that records leave in the order in which they were made. Taken before `tls`.
    sending: Mutex<()>,
}

impl TlsClient {
    /// Shakes hands, at most for `timeout` each time that it waits.
    pub(super) fn new(
        socket: Client,
        tls: &Tls,
        url: &str,
        timeout: Option<Duration>,
    ) -> Result<TlsClient, Error> {
        let connection = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
        let connection = connection.map_err(|error| failed(url, &error))?;
        let client = TlsClient {
            socket,
            url: url.to_owned(),
            tls: Mutex::new(TlsState::new(connection)),
            sending: Mutex::default(),
        };
        let mut wire = vec![0; WIRE_BYTES];
        loop {
            client.flush(timeout)?;
            if !client.tls().tls.is_handshaking() {
                return Ok(client);
            }
            let count = client.socket.recv(&mut wire, timeout)?;
            let taken = client.take(wire.get(..count).unwrap_or_default());
            if taken.is_err() {
                // The alert that says why.
                let _ = client.flush(timeout);
            }
            taken?;
        }
    }

    pub(super) fn socket(&self) -> &Client {
        &self.socket
    }

    pub(super) fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
        let _sending = lock(&self.sending);
        let sealed = {
            let mut state = self.tls();
            state.tls.writer().write_all(data).map_err(|error| system(&self.url, "send to", error))?;
            self.outgoing(&mut state)?
        };
        self.socket.send(&sealed, timeout)
    }

    pub(super) fn recv(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize, Error> {
        let mut wire = vec![0; WIRE_BYTES];
        loop {
            match self.tls().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map_err(|error| system(&self.url, "receive from", error)),
            }
            let count = self.socket.recv(&mut wire, timeout)?;
            self.take(wire.get(..count).unwrap_or_default())?;
            // What TLS says of itself waits for whoever is sending: waiting for them could be for ever.
            if let Ok(_sending) = self.sending.try_lock() {
                let sealed = self.outgoing(&mut self.tls())?;
                if !sealed.is_empty() {
                    self.socket.send(&sealed, timeout)?;
                }
            }
        }
    }

    /// Says that our side ends.
    pub(super) fn shutdown(&self) -> Result<(), Error> {
        self.tls().tls.send_close_notify();
        // A server that does not take it has ended too.
        let _ = self.flush(Some(GOODBYE));
        self.socket.shutdown()
    }

    pub(super) fn into_socket(self) -> Socket {
        let state = self.tls.into_inner().unwrap_or_else(PoisonError::into_inner);
        Socket::Tls(self.socket.into(), Box::new(TlsRecords::new(state)))
    }

    fn tls(&self) -> MutexGuard<'_, TlsState> {
        lock(&self.tls)
    }

    fn flush(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let _sending = lock(&self.sending);
        let sealed = self.outgoing(&mut self.tls())?;
        if sealed.is_empty() { Ok(()) } else { self.socket.send(&sealed, timeout) }
    }

    /// What the server sent; nothing: the socket has ended.
    fn take(&self, wire: &[u8]) -> Result<(), Error> {
        let mut state = self.tls();
        state.take(wire).map_err(|error| failed(&self.url, &error))?;
        if wire.is_empty() && state.tls.is_handshaking() {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the handshake");
            return Err(system(&self.url, "TLS with", error));
        }
        Ok(())
    }

    fn outgoing(&self, state: &mut TlsState) -> Result<Vec<u8>, Error> {
        let mut sealed = Vec::new();
        state.outgoing(&mut sealed).map_err(|error| system(&self.url, "send to", error))?;
        Ok(sealed)
    }
}

/// How long the end of our side may take to leave.
const GOODBYE: Duration = Duration::from_secs(1);

fn system(url: &str, what: &str, source: io::Error) -> Error {
    Error::System { what: format!("{what} {url}"), source }
}

/// What went wrong with TLS itself: the server cannot be reached in a way that can be trusted.
fn failed(url: &str, error: &rustls::Error) -> Error {
    system(url, "TLS with", io::Error::other(error_text(error)))
}
