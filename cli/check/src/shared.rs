//! The file that a probe's parent and child both have in memory: the request, the step that is being taken, what a
//! fault hit, the answer. It outlives the child however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const REQUEST_AT: usize = 4096;
const ANSWER_AT: usize = 128 * 1024;
const BYTES: usize = 1024 * 1024;
const STEP_BYTES_MAX: usize = 1024;

/// What stands at the beginning of the file. All zero is valid.
#[repr(C)]
pub(crate) struct Header {
    request_bytes: AtomicU64,
    answer_bytes: AtomicU64,
    /// The answer is complete.
    done: AtomicU64,
    step_bytes: AtomicU64,
    /// Written by the signal handler of the child.
    pub(crate) fault: FaultCell,
    step: [AtomicU64; STEP_BYTES_MAX / 8],
}

const _: () = assert!(size_of::<Header>() <= REQUEST_AT);

/// See [`Fault`]; every field is a number, so that a signal handler can write it.
#[repr(C)]
pub(crate) struct FaultCell {
    pub(crate) happened: AtomicU64,
    pub(crate) region: AtomicU64,
    pub(crate) side: AtomicU64,
    pub(crate) distance: AtomicU64,
    pub(crate) access: AtomicU64,
}

/// Where a bad access went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The number of an [`guarded::Region`](crate::guarded::Region); 0: not in guarded memory.
    pub(crate) region: u64,
    /// 1 before, 2 inside, 3 behind it.
    pub(crate) side: u64,
    /// How far before or behind, or how deep inside.
    pub(crate) distance: u64,
    /// 0 not known, 1 read, 2 written.
    pub(crate) access: u64,
}

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Shared {
    memory: NonNull<u8>,
}

// SAFETY: the header is atomics; the rest is written by one side before the other is told.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Makes the file with a request in it. There must be none of that name.
    pub(crate) fn create(path: &Path, request: &[u8]) -> io::Result<Shared> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(BYTES as u64)?;
        let shared = Shared::map(&file)?;
        if request.len() > ANSWER_AT - REQUEST_AT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the options are too long"));
        }
        shared.write(REQUEST_AT, request);
        shared.header().request_bytes.store(request.len() as u64, Ordering::Release);
        Ok(shared)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Shared> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Shared::map(&file)
    }

    fn map(file: &File) -> io::Result<Shared> {
        // SAFETY: a new mapping of a file that is BYTES long.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).map(|memory| Shared { memory }).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned and longer than a Header, which is atomics only.
        unsafe { self.memory.cast().as_ref() }
    }

    pub(crate) fn request(&self) -> Vec<u8> {
        let bytes = self.header().request_bytes.load(Ordering::Acquire) as usize;
        self.read(REQUEST_AT, bytes.min(ANSWER_AT - REQUEST_AT))
    }

    /// Notes what is being done now.
    pub(crate) fn step(&self, text: &str) {
        let bytes = text.as_bytes();
        let bytes = &bytes[..bytes.len().min(STEP_BYTES_MAX)];
        for (cell, chunk) in self.header().step.iter().zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        self.header().step_bytes.store(bytes.len() as u64, Ordering::Release);
    }

    pub(crate) fn last_step(&self) -> String {
        let bytes = self.header().step_bytes.load(Ordering::Acquire) as usize;
        let mut text: Vec<u8> =
            self.header().step.iter().flat_map(|cell| cell.load(Ordering::Relaxed).to_ne_bytes()).collect();
        text.truncate(bytes);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Gives the answer; what does not fit is no answer.
    pub(crate) fn answer(&self, answer: &[u8]) {
        if answer.len() <= BYTES - ANSWER_AT {
            self.write(ANSWER_AT, answer);
            self.header().answer_bytes.store(answer.len() as u64, Ordering::Relaxed);
            self.header().done.store(1, Ordering::Release);
        }
    }

    pub(crate) fn answered(&self) -> Option<Vec<u8>> {
        if self.header().done.load(Ordering::Acquire) == 0 {
            return None;
        }
        let bytes = self.header().answer_bytes.load(Ordering::Relaxed) as usize;
        Some(self.read(ANSWER_AT, bytes.min(BYTES - ANSWER_AT)))
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        let cell = &self.header().fault;
        (cell.happened.load(Ordering::Acquire) != 0).then(|| Fault {
            region: cell.region.load(Ordering::Relaxed),
            side: cell.side.load(Ordering::Relaxed),
            distance: cell.distance.load(Ordering::Relaxed),
            access: cell.access.load(Ordering::Relaxed),
        })
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: the callers saw that it fits; the other side waits for the number that follows.
        unsafe { self.memory.add(at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }

    fn read(&self, at: usize, bytes: usize) -> Vec<u8> {
        let mut copy = vec![0; bytes];
        // SAFETY: the callers saw that it is within the mapping.
        unsafe { self.memory.add(at).copy_to_nonoverlapping(NonNull::from(&mut copy[..]).cast(), bytes) };
        copy
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BYTES) };
    }
}

/// Fields one after another, each with its length.
#[derive(Debug, Default)]
pub(crate) struct Packer(pub(crate) Vec<u8>);

impl Packer {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.number(texts.len() as u64);
        texts.for_each(|text| self.text(text));
    }
}

/// Reads what a [`Packer`] wrote.
#[derive(Debug)]
pub(crate) struct Unpacker<'a>(pub(crate) &'a [u8]);

impl<'a> Unpacker<'a> {
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*number))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.number()?;
        (0..count).map(|_| self.text()).collect()
    }
}
