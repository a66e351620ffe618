//! What the tests share: an authority, servers on each driver, clients.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use resay::{Backend, CloseReason, Engine, Filter, Stats};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing that a test waits for takes longer, on a machine that is busy with other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says loudly that something was not tested.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// An authority, and a directory for what it has signed.
pub(crate) struct Authority {
    pub(crate) directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), &pem).unwrap();
        Authority { directory, issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for these names, and writes it to NAME.pem and its key to NAME.key.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_path, key_path) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&cert_path, certificate.pem()).unwrap();
        write_secret(&key_path, key.serialize_pem().as_bytes());
        (cert_path, key_path)
    }

    /// The URL of a listener with the certificate NAME and these options more.
    pub(crate) fn url(&self, name: &str, more: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        format!("tls://127.0.0.1:0?cert={}&key={}{more}", cert.display(), key.display())
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What a client wants.
#[derive(Clone, Default)]
pub(crate) struct Wants<'a> {
    pub(crate) versions: Option<Versions>,
    pub(crate) alpn: &'a [&'a str],
    /// Its certificate and key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

pub(crate) fn client_config(authority: &Authority, wants: &Wants<'_>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(wants.versions.unwrap_or(rustls::ALL_VERSIONS))
        .unwrap()
        .with_root_certificates(authority.roots());
    let mut config = match &wants.own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = wants.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];
pub(crate) static TLS12: Versions = &[&rustls::version::TLS12];
pub(crate) static TLS13: Versions = &[&rustls::version::TLS13];

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

/// A client that has shaken hands, or the reason why it could not.
pub(crate) fn connect(server: &Server, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Client> {
    let mut client = begin(server, config, name);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    Ok(client)
}

/// A client that has not said anything yet.
pub(crate) fn begin(server: &Server, config: &Arc<ClientConfig>, name: &str) -> Client {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), server.socket())
}

pub(crate) fn ask(client: &mut Client, question: &[u8]) -> Vec<u8> {
    client.write_all(question).unwrap();
    client.flush().unwrap();
    let mut answer = vec![0; question.len()];
    client.read_exact(&mut answer).unwrap();
    answer
}

/// Says that this side ends, in TLS and on the socket.
pub(crate) fn half_close(client: &mut Client) {
    client.conn.send_close_notify();
    while client.conn.wants_write() {
        client.conn.write_tls(&mut client.sock).unwrap();
    }
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
}

/// A server on one driver.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) url: String,
    pub(crate) backend: Backend,
}

impl Server {
    /// `None`: there is no such driver here.
    pub(crate) fn start(backend: Backend, url: &str, chain: &str) -> Option<Server> {
        let filter = Filter::from_table(&resay_tls::TABLE).unwrap();
        let builder = Engine::builder().backend(backend).register_filter(filter);
        let engine = builder.listen(url).unwrap().chain(chain).unwrap().build().unwrap();
        if let Err(error) = engine.start() {
            assert_eq!(backend, Backend::Uring, "{error}");
            skipped(&format!("io_uring: {error}"));
            return None;
        }
        let url = engine.urls().remove(0);
        Some(Server { engine, url, backend })
    }

    pub(crate) fn port(&self) -> u16 {
        self.engine.listeners()[0].port().unwrap()
    }

    pub(crate) fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Takes turns until so many connections have ended for this reason, and until nothing is open.
    pub(crate) fn expect_closed(&self, reason: CloseReason, count: u64) -> Stats {
        let since = Instant::now();
        loop {
            let stats = self.engine.stats();
            let is_over = stats.accepted == stats.closed;
            if is_over && stats.closed_by(reason) == count {
                return stats;
            }
            assert!(since.elapsed() < PATIENCE, "{:?}: {count} times {reason:?}: {stats:?}", self.backend);
            self.engine.sync(Some(PATIENCE)).unwrap();
        }
    }

    /// Ends it, and checks that every message has an answer or a reason.
    pub(crate) fn finish(self) {
        let since = Instant::now();
        let stats = loop {
            let stats = self.engine.stats();
            if stats.accepted == stats.closed {
                break stats;
            }
            assert!(since.elapsed() < PATIENCE, "connections are left: {stats:?}");
            self.engine.sync(Some(PATIENCE)).unwrap();
        };
        assert_eq!(stats.messages_in, stats.messages_out + stats.dropped, "{stats:?}");
        self.engine.drain(PATIENCE).unwrap();
    }
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Epoll, Backend::Uring];

/// Runs a test on each driver that is here.
pub(crate) fn on_each(url: &str, chain: &str, mut test: impl FnMut(&Server)) {
    for backend in BACKENDS {
        if let Some(server) = Server::start(backend, url, chain) {
            test(&server);
            server.finish();
        }
    }
}
