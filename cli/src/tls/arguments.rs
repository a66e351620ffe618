//! The arguments of TLS.

use std::path::PathBuf;

use clap::Args;

/// Arguments for URLs that begin with `tls:` or `unix+tls:`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsArguments {
    /// TLS: file of the certificates that the server's is checked against, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// TLS: do not check the certificate of the server
    #[arg(long, conflicts_with = "ca")]
    pub(super) insecure: bool,
    /// TLS: file of our own certificate, in PEM, for servers that ask for one
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Option<PathBuf>,
    /// TLS: file of its private key [default: the file of --cert]
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// TLS: name that the server is asked for (SNI), and that its certificate must have [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    pub(super) sni: Option<String>,
}
