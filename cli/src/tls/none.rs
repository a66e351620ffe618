//! Without the feature `tls`: there is no TLS.

use std::time::Duration;

use resay::{Client, Error};
use resay_load::Socket;

use super::arguments::TlsArguments;
use crate::exit::{Exit, Failure};

/// Nothing is one.
#[derive(Debug, Clone)]
pub(crate) enum Tls {}

impl Tls {
    pub(super) fn new(_: &TlsArguments, _: &str) -> Result<Tls, Failure> {
        Err(Failure::new(Exit::Usage, "this resay was compiled without TLS (feature tls)"))
    }
}

/// Nothing is one.
#[derive(Debug)]
pub(crate) enum TlsClient {}

impl TlsClient {
    pub(super) fn new(_: Client, tls: &Tls, _: &str, _: Option<Duration>) -> Result<TlsClient, Error> {
        match *tls {}
    }

    pub(super) fn send(&self, _: &[u8], _: Option<Duration>) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn recv(&self, _: &mut [u8], _: Option<Duration>) -> Result<usize, Error> {
        match *self {}
    }

    pub(super) fn shutdown(&self) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn into_socket(self) -> Socket {
        match self {}
    }

    pub(super) fn socket(&self) -> &Client {
        match *self {}
    }
}
