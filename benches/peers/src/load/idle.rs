//! Connections that do nothing: what each costs the server's memory.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use resay::Client;

use crate::running::Running;
use crate::workload::Kind;

/// How long the message is that each has echoed.
pub(crate) const IDLE_BYTES: usize = 64;
const MESSAGE: [u8; IDLE_BYTES] = [b'A'; IDLE_BYTES];
/// Nothing for so long means that the server does not answer.
const SILENCE: Duration = Duration::from_secs(10);
/// The server's memory is taken when it has stayed the same for so long, or after a while.
const STILL: Duration = Duration::from_millis(200);
const STILL_MAX: Duration = Duration::from_secs(3);

/// What connections that have echoed once and are idle now have added to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) connections: usize,
    /// The proportional set size of all processes, a connection.
    pub(crate) bytes: f64,
    /// Processes that were added, a connection.
    pub(crate) processes: f64,
}

/// Opens so many connections, and measures.
pub(crate) fn idle(server: &Running, connections: usize) -> Result<Memory, Box<dyn Error>> {
    // The first one pays for what all others use.
    drop(open(server)?);
    let (bytes_before, processes_before) = settled(server)?;
    let mut open_ones = Vec::with_capacity(connections);
    for index in 0..connections {
        open_ones.push(open(server).map_err(|error| format!("connection {index}: {error}"))?);
    }
    let (bytes, processes) = settled(server)?;
    Ok(Memory {
        connections,
        bytes: (bytes as f64 - bytes_before as f64) / connections as f64,
        processes: (processes as f64 - processes_before as f64) / connections as f64,
    })
}

fn open(server: &Running) -> Result<Client, Box<dyn Error>> {
    let client = Client::open(&server.place.url(Kind::Tcp), Some(SILENCE))?;
    client.send(&MESSAGE, Some(SILENCE))?;
    let (mut answer, mut len) = ([0; MESSAGE.len()], 0);
    while let Some(room) = answer.get_mut(len..).filter(|room| !room.is_empty()) {
        len += match client.recv(room, Some(SILENCE))? {
            0 => return Err("closed by the server".into()),
            count => count,
        };
    }
    if answer != MESSAGE {
        return Err("a wrong answer".into());
    }
    Ok(client)
}

fn settled(server: &Running) -> Result<(u64, usize), Box<dyn Error>> {
    let begin = Instant::now();
    let mut last = server.memory()?;
    loop {
        thread::sleep(STILL);
        let now = server.memory()?;
        if now == last || begin.elapsed() > STILL_MAX {
            return Ok(now);
        }
        last = now;
    }
}
