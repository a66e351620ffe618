//! An engine that is served on the bench's own thread: no other thread wakes up, so what is measured is the work.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use resay::Engine;
use tempfile::TempDir;

/// An engine with one unix stream listener, and a peer that is connected to it.
pub(crate) struct InlineEngine {
    engine: Engine,
    peer: UnixStream,
    answer: Vec<u8>,
    _directory: TempDir,
}

impl InlineEngine {
    /// `options` of the listener, such as `frame=lines`.
    pub(crate) fn new(options: &str, chain: &str) -> InlineEngine {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let path = directory.path().join("s");
        let engine = Engine::builder()
            .listen(&format!("unix:{}?{options}", path.display()))
            .and_then(|builder| builder.chain(chain)?.build())
            .expect("an engine");
        let peer = UnixStream::connect(&path).expect("a connection");
        peer.set_nonblocking(true).expect("a socket that does not block");
        engine.run(Some(Duration::ZERO)).expect("a turn that accepts");
        InlineEngine { engine, peer, answer: vec![0; 1 << 20], _directory: directory }
    }

    /// Sends these pieces, each followed by a turn of the engine, and reads so many bytes of answers.
    pub(crate) fn exchange<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
        answer_bytes: usize,
    ) -> &[u8] {
        for piece in pieces {
            self.peer.write_all(piece).expect("room for the piece");
            self.turn();
        }
        let mut received = 0;
        while received < answer_bytes {
            match self.peer.read(&mut self.answer[received..answer_bytes]) {
                Ok(0) => unreachable!("the engine does not close"),
                Ok(len) => received += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                Err(error) => unreachable!("read: {error}"),
            }
        }
        &self.answer[..received]
    }

    fn turn(&self) {
        self.engine.run(Some(Duration::ZERO)).expect("a turn");
    }
}
