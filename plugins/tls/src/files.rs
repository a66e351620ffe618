//! Certificates and keys in PEM: from files, or from the option itself, so that a program need not write its key to a disk.

use resay_plugin::Error;
use resay_plugin::file::plain;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// More than any file of certificates has: those of all public authorities are a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const READABLE_BY_OTHERS: u32 = 0o006;

/// What an option holds: PEM, and what to call it in an error.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    bytes: Vec<u8>,
}

impl Source {
    /// Reads what an option names. `is_secret`: nobody else may be able to read it.
    pub(crate) fn read(key: &str, value: &[u8], is_secret: bool) -> Result<Source, Error> {
        if value.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Ok(Source { name: format!("{key} (given as PEM)"), bytes: value.to_vec() });
        }
        let path = Path::new(OsStr::from_bytes(value));
        let name = format!("{key} {}", path.display());
        let wrong = |what: &str| Error::config(format!("{name}: {what}"));
        let file = File::open(path).map_err(|error| wrong(&plain(&error)))?;
        let metadata = file.metadata().map_err(|error| wrong(&plain(&error)))?;
        if !metadata.is_file() {
            return Err(wrong("is not a file"));
        }
        if is_secret && metadata.permissions().mode() & READABLE_BY_OTHERS != 0 {
            return Err(wrong("everyone can read or write this private key (chmod o-rw)"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| wrong(&plain(&error)))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("is longer than 1 MiB"));
        }
        Ok(Source { name, bytes })
    }

    /// All certificates in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.wrong("has no certificate in PEM")),
            found => found.map_err(|error| self.unreadable(&error)),
        }
    }

    /// The first private key in it.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.wrong("has no private key in PEM that is not encrypted"),
            error => self.unreadable(&error),
        })
    }

    pub(crate) fn wrong(&self, what: &str) -> Error {
        Error::config(format!("{}: {what}", self.name))
    }

    fn unreadable(&self, error: &pem::Error) -> Error {
        self.wrong(&format!("cannot be read as PEM: {error}"))
    }
}
