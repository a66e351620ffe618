//! What a tap and the workers share.

use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::record::{Bytes, Recorded, TapRecord, head_of, parse, word};
use super::ring::{LOST_WORD, Ring};
use crate::error::{Error, Result, SpecError};
use crate::limits::{TAP_BYTES_DEFAULT, TAP_BYTES_MAX, TAP_BYTES_MIN, TAP_PATIENCE};
use crate::signal::Signal;

/// What a tap keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The answers too.
    pub(crate) answers: bool,
    /// One listener; 0: all.
    pub(crate) listener: u64,
    /// Memory of the ring; 0: the default.
    pub(crate) capacity_bytes: usize,
    /// Bytes of a message, and of an answer, at most; 0: a quarter of the capacity.
    pub(crate) data_bytes_max: usize,
}

/// What a tap and the workers share.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) settings: Settings,
    pub(super) ring: Ring,
    pub(super) signal: Signal,
    pub(super) reader: Mutex<Reader>,
}

/// How far the reader is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    at: u64,
    taken: u64,
    /// Records that are known to be lost before the next one.
    lost: u64,
    /// The record that was taken from the ring last.
    record: Vec<u8>,
    /// Nobody has had that yet.
    is_waiting: bool,
    /// There were records when it was last looked, so there will be more soon.
    pub(super) is_busy: bool,
}

impl Channel {
    pub(super) fn new(settings: Settings) -> Result<Channel> {
        let capacity = match settings.capacity_bytes {
            0 => TAP_BYTES_DEFAULT,
            bytes if (TAP_BYTES_MIN..=TAP_BYTES_MAX).contains(&bytes) => bytes,
            bytes => {
                let range = format!("must be {TAP_BYTES_MIN} to {TAP_BYTES_MAX}");
                return Err(SpecError::new("capacity_bytes", &bytes.to_string(), 0, range).into());
            }
        };
        let most = capacity / 4;
        let data_bytes_max =
            if settings.data_bytes_max == 0 { most } else { settings.data_bytes_max.min(most) };
        let failed = Error::system("open a tap");
        let Some(ring) = Ring::new(capacity) else {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOMEM)));
        };
        Ok(Channel {
            settings: Settings { data_bytes_max, ..settings },
            ring,
            signal: Signal::new().map_err(Error::system("open a tap"))?,
            reader: Mutex::default(),
        })
    }

    /// Whether it wants the messages of a listener.
    pub(super) fn wants(&self, listener: u64) -> bool {
        self.settings.listener == 0 || self.settings.listener == listener
    }

    /// Writes a record.
    pub(super) fn write(&self, of: &Recorded<'_>, peer: &[u8], data: Bytes<'_>, answer: Bytes<'_>) {
        let data = data.cut(self.settings.data_bytes_max);
        let answer = answer.cut(if self.settings.answers { self.settings.data_bytes_max } else { 0 });
        self.ring.write(head_of(of, peer, data, answer), [peer, data.kept, answer.kept]);
    }

    /// Hands out what waits; `None`: nothing does. It fails where the first that waits is longer than there is memory.
    pub(super) fn drain(
        &self,
        reader: &mut Reader,
        take: &mut impl FnMut(&TapRecord<'_>) -> bool,
    ) -> io::Result<Option<usize>> {
        let mut taken = 0;
        loop {
            if !reader.is_waiting {
                match self.fill(reader) {
                    Ok(true) => {}
                    Err(error) if taken == 0 => return Err(error),
                    Ok(false) | Err(_) => return Ok((taken > 0).then_some(taken)),
                }
            }
            let sequence = reader.taken + reader.lost + 1;
            // Only the recorder writes to the ring.
            let is_taken = parse(&reader.record, sequence).is_none_or(|record| take(&record));
            reader.is_waiting = !is_taken;
            if !is_taken {
                return Ok(Some(taken));
            }
            reader.taken += 1;
            taken += 1;
        }
    }

    /// Takes the next record out of the ring.
    fn fill(&self, reader: &mut Reader) -> io::Result<bool> {
        let Reader { at, record, .. } = reader;
        let is_taken =
            self.ring.take(at, record)? || self.ring.is_reserved(*at) && self.wait_for_writer(at, record)?;
        if !is_taken {
            return Ok(false);
        }
        let lost = word(record, LOST_WORD);
        reader.lost = reader.lost.max(lost);
        reader.is_waiting = true;
        Ok(true)
    }

    /// Waits for the record that a worker is just writing: others behind it may be there already, with their answers on
    /// their way. It takes nanoseconds, but the worker may have lost its processor.
    #[cold]
    fn wait_for_writer(&self, at: &mut u64, record: &mut Vec<u8>) -> io::Result<bool> {
        let begun = Instant::now();
        loop {
            for _ in 0..64 {
                if self.ring.take(at, record)? {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            // In a child of fork(2) nobody goes on writing.
            if begun.elapsed() > TAP_PATIENCE {
                return Ok(false);
            }
            thread::yield_now();
        }
    }
}
