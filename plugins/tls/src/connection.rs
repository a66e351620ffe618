//! One connection: bytes in, bytes out. rustls works in the memory that it is given, so an idle connection holds no buffer.

use crate::config::take_asked_name;
use crate::subject::subject;
use crate::words::error_text;
use resay_plugin::{Error, Facts, Out, Received};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{ProtocolVersion, ServerConfig};
use std::fmt;
use std::sync::Arc;

/// The largest fragment of one record (RFC 8446, 5.1), and what a record has beside it: its header, the type, the tag and,
/// in TLS 1.2, the nonce.
const FRAGMENT_BYTES: usize = 16 * 1024;
const RECORD_BYTES_MORE: usize = 32;
/// States that one call may bring without input: a few flights of a handshake. More is a mistake in the machine.
const STATES_MAX: usize = 64;

/// The state of one connection.
pub struct Connection {
    tls: UnbufferedServerConnection,
    /// The number that the host gave it.
    id: u64,
    /// A record, or a message of the handshake, of which a part is still to come.
    rest: Vec<u8>,
    /// The name that the client has asked for (SNI), until it is told.
    asked_name: Option<Box<str>>,
    /// The peer has sent close_notify.
    has_ended: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("rest", &self.rest.len())
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(config: Arc<ServerConfig>, id: u64) -> Result<Connection, Error> {
        let tls = UnbufferedServerConnection::new(config).map_err(failed)?;
        Ok(Connection { tls, id, rest: Vec::new(), asked_name: None, has_ended: false })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The peer sent `wire`.
    pub(crate) fn receive(
        &mut self,
        wire: &mut [u8],
        plain: &mut Out<'_>,
        reply: &mut Out<'_>,
    ) -> Result<Received, Error> {
        if self.has_ended {
            // What follows close_notify is ignored (RFC 8446, 6.1).
            return Ok(Received::Ended);
        }
        if self.rest.is_empty() {
            let (used, received) = self.process(wire, plain, reply)?;
            self.rest.extend_from_slice(wire.get(used..).unwrap_or_default());
            return Ok(received);
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(wire);
        let (used, received) = self.process(&mut bytes, plain, reply)?;
        if used < bytes.len() {
            bytes.drain(..used);
            self.rest = bytes;
        }
        Ok(received)
    }

    /// Processes all records that are whole: how many bytes that took.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Out<'_>,
        reply: &mut Out<'_>,
    ) -> Result<(usize, Received), Error> {
        let mut used = 0;
        let mut idle = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let is_handshaking = self.tls.is_handshaking();
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(rest);
            if is_handshaking && let Some(name) = take_asked_name() {
                self.asked_name = Some(name.into());
            }
            idle = if discard == 0 { idle + 1 } else { 0 };
            let received = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(failed)?;
                        discard += record.discard;
                        plain.extend(record.payload)?;
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, reply)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Received::Handshaking),
                Ok(ConnectionState::WriteTraffic(_)) if self.has_ended => Some(Received::Ended),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Received::Open),
                Ok(ConnectionState::PeerClosed) => {
                    self.has_ended = true;
                    None
                }
                Ok(ConnectionState::Closed) => Some(Received::Ended),
                Ok(_) => return Err(Error::unsupported("an unknown state of the connection")),
                Err(error) => {
                    let behind = bytes.get_mut(used + discard..).unwrap_or_default();
                    // What is no record stays where it is: rustls would find fault with it once more.
                    let is_record = !matches!(
                        error,
                        rustls::Error::InvalidMessage(_)
                            | rustls::Error::DecryptError
                            | rustls::Error::PeerSentOversizedRecord
                    );
                    self.say_why(if is_record { behind } else { &mut [] }, reply);
                    return Err(failed(error));
                }
            };
            used += discard;
            match received {
                Some(received) => return Ok((used, received)),
                None if idle > STATES_MAX => return Err(Error::unsupported("the connection goes nowhere")),
                None => {}
            }
        }
    }

    /// After an error: the alert that tells the peer. `rest`: what was behind it, of which rustls may remember places.
    fn say_why(&mut self, rest: &mut [u8], reply: &mut Out<'_>) {
        for _ in 0..STATES_MAX {
            match self.tls.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if encode(&mut data, reply).is_err() {
                        return;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }

    /// Says `plain` in records.
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Out<'_>) -> Result<(), Error> {
        let records = plain.len().div_ceil(FRAGMENT_BYTES);
        let bytes = plain.len() + records * RECORD_BYTES_MORE;
        self.write(bytes, wire, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Tells what both sides have agreed on, and whose certificate the client has shown.
    pub(crate) fn facts(&mut self, facts: &mut Facts<'_, '_>) -> Result<(), Error> {
        match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => facts.put("version", "TLSv1.2")?,
            Some(ProtocolVersion::TLSv1_3) => facts.put("version", "TLSv1.3")?,
            _ => {}
        }
        if let Some(name) = self.tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()) {
            // The registry's names have no version in them (RFC 8446, B.4).
            facts.put("cipher", name.replacen("TLS13_", "TLS_", 1))?;
        }
        // It is told once.
        if let Some(name) = self.asked_name.take() {
            facts.put("sni", &*name)?;
        }
        if let Some(protocol) = self.tls.alpn_protocol() {
            facts.put("alpn", protocol)?;
        }
        let certificate = self.tls.peer_certificates().and_then(<[_]>::first);
        facts.put("client_cert", if certificate.is_some() { "yes" } else { "no" })?;
        if let Some(subject) = certificate.and_then(|der| subject(der)) {
            facts.put("client_subject", subject)?;
        }
        Ok(())
    }

    /// Says that our side ends.
    pub(crate) fn end(&mut self, wire: &mut Out<'_>) -> Result<(), Error> {
        self.write(2 * RECORD_BYTES_MORE, wire, |traffic, room| traffic.queue_close_notify(room))
    }

    fn write(
        &mut self,
        bytes: usize,
        wire: &mut Out<'_>,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        for _ in 0..STATES_MAX {
            // rustls may remember places in it.
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.rest);
            debug_assert_eq!(discard, 0, "all that is whole was processed when it came");
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let filled = match write(&mut traffic, wire.room(bytes)?) {
                        // A message that tells of new keys goes before it.
                        Err(EncryptError::InsufficientSize(size)) => {
                            write(&mut traffic, wire.room(size.required_size)?)
                        }
                        filled => filled,
                    };
                    wire.filled(filled.map_err(|error| Error::unsupported(error.to_string()))?);
                    return Ok(());
                }
                // Our side has ended before.
                Ok(ConnectionState::Closed) => return Ok(()),
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => return Err(Error::unsupported("the handshake is not complete")),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::unsupported("the connection goes nowhere"))
    }
}

type Traffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// Appends what is to be sent for the sake of TLS.
fn encode(
    data: &mut EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    out: &mut Out<'_>,
) -> Result<(), Error> {
    let filled = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => data.encode(out.room(size.required_size)?),
        filled => filled,
    };
    out.filled(filled.map_err(|error| Error::unsupported(error.to_string()))?);
    Ok(())
}

fn failed(error: rustls::Error) -> Error {
    Error::unsupported(error_text(&error))
}
