//! The records of one connection, in memory.

use std::io::{self, Read, Write};

use rustix::io::Errno;
use rustls::ClientConnection;

/// What TLS knows, and what the server said that nobody has taken yet, from `plain_at` on.
#[derive(Debug)]
pub struct TlsState {
    /// What rustls knows.
    pub tls: ClientConnection,
    plain: Vec<u8>,
    plain_at: usize,
}

impl TlsState {
    /// A connection that has no handshake behind it, or any part of one.
    pub fn new(mut tls: ClientConnection) -> TlsState {
        // What is sealed leaves before more is: nothing grows.
        tls.set_buffer_limit(None);
        TlsState { tls, plain: Vec::new(), plain_at: 0 }
    }

    /// The server sent `wire`; nothing: the socket has ended.
    pub fn take(&mut self, mut wire: &[u8]) -> Result<(), rustls::Error> {
        loop {
            let failed = |error: io::Error| rustls::Error::General(error.to_string());
            self.tls.read_tls(&mut wire).map_err(failed)?;
            let state = self.tls.process_new_packets()?;
            if state.plaintext_bytes_to_read() > 0 {
                let begin = self.plain.len();
                self.plain.resize(begin + state.plaintext_bytes_to_read(), 0);
                let room = self.plain.get_mut(begin..).unwrap_or_default();
                self.tls.reader().read_exact(room).map_err(failed)?;
            }
            if wire.is_empty() {
                return Ok(());
            }
        }
    }

    /// What is there of what the server said. `WouldBlock`: more has to come; 0: the server has said that it ends.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.plain.get(self.plain_at..).unwrap_or_default();
        if waiting.is_empty() {
            return self.tls.reader().read(buffer);
        }
        let len = waiting.len().min(buffer.len());
        if let (Some(place), Some(bytes)) = (buffer.get_mut(..len), waiting.get(..len)) {
            place.copy_from_slice(bytes);
        }
        self.plain_at += len;
        if self.plain_at == self.plain.len() {
            self.plain.clear();
            self.plain_at = 0;
        }
        Ok(len)
    }

    /// Takes over what is to be sent, in records.
    pub fn outgoing(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(sealed)?;
        }
        Ok(())
    }
}

/// The TLS of a socket that does not wait, for the load generator.
#[derive(Debug)]
pub struct TlsRecords {
    state: TlsState,
    /// What is sealed and not with the kernel, from `sent_at` on.
    sealed: Vec<u8>,
    sent_at: usize,
}

impl TlsRecords {
    /// The handshake is done.
    pub fn new(state: TlsState) -> TlsRecords {
        TlsRecords { state, sealed: Vec::new(), sent_at: 0 }
    }

    /// Takes bytes over, if everything before them is with the kernel: how many.
    pub(crate) fn send(
        &mut self,
        data: &[u8],
        mut send: impl FnMut(&[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.flush(&mut send)?;
        let taken = self.state.tls.writer().write(data).map_err(|_| Errno::PROTO)?;
        self.sealed.clear();
        self.sent_at = 0;
        self.state.outgoing(&mut self.sealed).map_err(|_| Errno::PROTO)?;
        match self.flush(&mut send) {
            // What the kernel does not take now, it takes before the next bytes.
            Ok(()) | Err(Errno::AGAIN) => Ok(taken),
            Err(error) => Err(error),
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        while let Some(rest) = self.sealed.get(self.sent_at..).filter(|rest| !rest.is_empty()) {
            match send(rest) {
                Err(Errno::INTR) => {}
                sent => self.sent_at += sent?,
            }
        }
        Ok(())
    }

    /// What the server said, as far as it has come; 0: it has ended. `wire` is memory for what comes.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        wire: &mut [u8],
        mut receive: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        loop {
            match self.state.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The socket has ended, and TLS has not.
                Err(_) => return Ok(0),
            }
            let count = receive(wire)?;
            self.state.take(wire.get(..count).unwrap_or_default()).map_err(|_| Errno::PROTO)?;
        }
    }
}
