//! Slots for one recvmmsg, and what sendmmsg takes out of them.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::control::{self, CONTROL_BYTES, Control, Sending};
use super::{LocalAddr, Reply, ReplyTo};
use crate::peer::Peer;
use crate::sys::{read_peer, syscall};

/// Datagrams that one send may carry: what Linux has allowed since it can (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;
/// Bytes of them together: as an IPv4 datagram, which they are on the way through the kernel.
const SEGMENTS_BYTES_MAX: usize = 65_507;

/// What came in one slot.
#[derive(Debug)]
pub(crate) struct Received {
    pub destination: LocalAddr,
    pub len: usize,
    /// Bytes of each datagram in the slot; the last may have fewer. The same as `len` where it is one.
    pub segment_bytes: usize,
    /// The datagram was longer than the slot: its end is lost.
    pub truncated: bool,
}

/// Slots for one recvmmsg and one sendmmsg. Everything the kernel's structures point at is owned here and
/// does not move while a batch lives.
pub(crate) struct Batch {
    slots: usize,
    slot_bytes: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    /// Scratch for the calls; the pointers in it are set anew before each.
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
    /// What the headers that were not used by the last call are prepared for: bytes, and control messages or not.
    prepared: Option<(usize, bool)>,
    sending: Vec<Sent>,
    sending_parts: Vec<libc::iovec>,
    sending_headers: Vec<libc::mmsghdr>,
    /// The kernel has refused to cut a send into datagrams.
    refuses_segments: bool,
}

/// One of the messages of a sendmmsg.
#[derive(Clone, Copy)]
struct Sent {
    control: Sending,
    /// Which of the answers it carries.
    first: usize,
    answers: usize,
}

// SAFETY: the raw pointers in the parts and headers are written and used within one call of `&mut self`, but for those
// of prepared headers, which point to what this batch owns and does not move.
unsafe impl Send for Batch {}

impl Batch {
    /// A batch of `slots` datagrams of at most `slot_bytes` each. The memory is only mapped when it is used.
    pub(crate) fn new(slots: usize, slot_bytes: usize) -> Batch {
        // An odd number of cache lines a slot, so that the slots' first lines do not share a cache set.
        let slot_bytes = slot_bytes.next_multiple_of(128) + 64;
        // SAFETY: these structures are plain data for which all zero is valid.
        let (name, part, header) = unsafe {
            (
                MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init(),
                MaybeUninit::<libc::iovec>::zeroed().assume_init(),
                MaybeUninit::<libc::mmsghdr>::zeroed().assume_init(),
            )
        };
        Batch {
            slots,
            slot_bytes,
            bytes: vec![0; slots * slot_bytes],
            names: vec![name; slots],
            controls: vec![Control::EMPTY; slots],
            parts: vec![part; slots],
            headers: vec![header; slots],
            received: 0,
            prepared: None,
            sending: Vec::with_capacity(slots),
            sending_parts: vec![part; slots],
            sending_headers: vec![header; slots],
            refuses_segments: false,
        }
    }

    /// How many slots one receive can fill.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// recvmmsg: how many slots are filled. Each takes at most `max_bytes`; fewer than all slots filled means
    /// that the socket's queue was empty. `control`: the socket has something to say about each.
    pub(crate) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        max_bytes: usize,
        control: bool,
    ) -> io::Result<usize> {
        let room = max_bytes.min(self.slot_bytes);
        // The kernel has changed those headers only that it filled.
        let stale = if self.prepared == Some((room, control)) { self.received } else { self.slots };
        self.prepare(stale, room, control);
        self.received = 0;
        // SAFETY: `slots` headers, each over memory of its own that this batch owns and does not move.
        let result = syscall!(unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.slots as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        });
        match result {
            Ok(n) => {
                self.received = n as usize;
                Ok(self.received)
            }
            Err(error) => {
                // Whether it touched the first is not said.
                self.prepared = None;
                Err(error)
            }
        }
    }

    /// Lets the first `count` headers point to their slots.
    fn prepare(&mut self, count: usize, room: usize, control: bool) {
        for index in 0..count {
            self.parts[index] = libc::iovec {
                iov_base: self.bytes[index * self.slot_bytes..].as_mut_ptr().cast(),
                iov_len: room,
            };
            let header = &mut self.headers[index];
            header.msg_len = 0;
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &mut self.parts[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
            if control {
                header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            } else {
                header.msg_hdr.msg_control = ptr::null_mut();
                header.msg_hdr.msg_controllen = 0;
            }
        }
        self.prepared = Some((room, control));
    }

    /// What came in slot `index`, and from whom, in the memory that `peer` has.
    pub(crate) fn received(&self, index: usize, peer: &mut Peer) -> Received {
        debug_assert!(index < self.received);
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(self.slot_bytes);
        read_peer(peer, &self.names[index], header.msg_hdr.msg_namelen as usize);
        let (destination, segment_bytes) = control::read(&header.msg_hdr);
        Received {
            destination,
            len,
            segment_bytes: if segment_bytes == 0 { len } else { segment_bytes },
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Where an answer to slot `index` is to go.
    pub(crate) fn reply_to(&self, index: usize) -> ReplyTo {
        let header = &self.headers[index].msg_hdr;
        ReplyTo {
            name: self.names[index],
            name_len: self.name_len(index) as usize,
            control: control::back_to(header),
        }
    }

    /// Bytes of the name that slot `index` came from. For a path that fills all of `sun_path` the kernel counts the NUL
    /// that has no room there, and takes no name of that length back (unix(7), BUGS).
    fn name_len(&self, index: usize) -> libc::socklen_t {
        let len = self.headers[index].msg_hdr.msg_namelen;
        if i32::from(self.names[index].ss_family) == libc::AF_UNIX {
            len.min(size_of::<libc::sockaddr_un>() as libc::socklen_t)
        } else {
            len
        }
    }

    /// The bytes of slot `index`, all of the slot.
    pub(crate) fn slot(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.slot_bytes..][..self.slot_bytes]
    }

    /// Sends the answers to the senders of their slots, in order. `outcome` hears of so many
    /// answers at a time how they went. An error of one never keeps back the others.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        answers: &[(u16, Reply)],
        mut outcome: impl FnMut(usize, io::Result<usize>),
    ) {
        let mut at = 0;
        while at < answers.len() {
            self.sending.clear();
            while self.sending.len() < self.slots
                && let Some((slot, reply)) = answers.get(at)
            {
                let count = if self.refuses_segments { 1 } else { run(answers, at) };
                self.fill(usize::from(*slot), reply, answers.get(at..at + count).unwrap_or_default(), at);
                at += count;
            }
            self.flush(fd, answers, &mut outcome);
        }
    }

    /// Prepares one message: `reply` alone, or all of `run`, which stand in one piece in the slot.
    fn fill(&mut self, slot: usize, reply: &Reply, run: &[(u16, Reply)], first: usize) {
        let name_len = self.name_len(slot);
        let mut control = control::back_to(&self.headers[slot].msg_hdr);
        let (base, len) = match (reply, run.last()) {
            (Reply::Bytes(bytes), _) => (bytes.as_ptr(), bytes.len()),
            (Reply::InPlace(range), Some((_, Reply::InPlace(last)))) => {
                if run.len() > 1 {
                    control.cut_into(range.len() as u16);
                }
                let slot = &self.bytes[slot * self.slot_bytes..][..self.slot_bytes];
                let part = slot.get(range.start..last.end).unwrap_or_default();
                (part.as_ptr(), part.len())
            }
            (Reply::InPlace(_), _) => return,
        };
        let place = self.sending.len();
        self.sending.push(Sent { control, first, answers: run.len() });
        self.sending_parts[place] = libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len };
        let header = &mut self.sending_headers[place];
        header.msg_len = 0;
        header.msg_hdr.msg_name = (&raw mut self.names[slot]).cast();
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = &mut self.sending_parts[place];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_flags = 0;
    }

    /// Sends what was prepared.
    fn flush(
        &mut self,
        fd: BorrowedFd<'_>,
        answers: &[(u16, Reply)],
        outcome: &mut impl FnMut(usize, io::Result<usize>),
    ) {
        for (sent, header) in self.sending.iter_mut().zip(&mut self.sending_headers) {
            sent.control.attach(&mut header.msg_hdr);
        }
        let count = self.sending.len();
        let mut done = 0;
        let mut retried = None;
        while done < count {
            // SAFETY: sending_headers[done..count] were filled by `fill` and point into memory that this batch or the
            // answers own; none of it moves during the call.
            let result = syscall!(unsafe {
                libc::sendmmsg(
                    fd.as_raw_fd(),
                    self.sending_headers[done..].as_mut_ptr(),
                    (count - done) as _,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            });
            let error = match result {
                // sendmmsg never answers 0 for a positive count; treat it as an error and not as a loop.
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(sent) => {
                    for _ in 0..sent {
                        let bytes = self.sending_headers[done].msg_len as usize;
                        outcome(self.sending[done].answers, Ok(bytes));
                        done += 1;
                    }
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                // On a socket that hears of refusals, each stops the next send, whomever that is for (udp(7)).
                Some(libc::ECONNREFUSED) if retried != Some(done) => {
                    retried = Some(done);
                    continue;
                }
                _ => {}
            }
            let Sent { first, answers: carried, .. } = self.sending[done];
            if carried == 1 || error.kind() == io::ErrorKind::WouldBlock {
                outcome(carried, Err(error));
            } else {
                // The way there may not do that: no checksums by the device (EIO), or segments that have to be
                // fragmented (EMSGSIZE, EINVAL). Each by itself then, and on another route perhaps for good.
                self.refuses_segments |= error.raw_os_error() == Some(libc::EIO);
                self.send_each(fd, answers.get(first..first + carried).unwrap_or_default(), outcome);
            }
            done += 1;
        }
    }

    /// Sends answers that stand in their slots one by one.
    fn send_each(
        &mut self,
        fd: BorrowedFd<'_>,
        answers: &[(u16, Reply)],
        outcome: &mut impl FnMut(usize, io::Result<usize>),
    ) {
        for (slot, reply) in answers {
            let reply_to = self.reply_to(usize::from(*slot));
            let bytes = match reply {
                Reply::Bytes(bytes) => bytes,
                Reply::InPlace(range) => self.slot(usize::from(*slot)).get(range.clone()).unwrap_or_default(),
            };
            loop {
                match reply_to.send(fd, bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break outcome(1, result),
                }
            }
        }
    }
}

/// How many answers from `at` on may leave as one: parts of one slot that lie side by side, all of the same length but
/// the last, which may be shorter.
pub(crate) fn run(answers: &[(u16, Reply)], at: usize) -> usize {
    let Some((slot, Reply::InPlace(first))) = answers.get(at) else { return 1 };
    let segment_bytes = first.len();
    if segment_bytes == 0 {
        return 1;
    }
    let mut end = first.end;
    let mut count = 1;
    for (other, reply) in answers.get(at + 1..).unwrap_or_default() {
        let Reply::InPlace(Range { start, end: next }) = reply else { break };
        if other != slot || *start != end {
            break;
        }
        let len = next.saturating_sub(*start);
        let fits = count < SEGMENTS_MAX && next.saturating_sub(first.start) <= SEGMENTS_BYTES_MAX;
        if len == 0 || len > segment_bytes || !fits {
            break;
        }
        count += 1;
        end = *next;
        if len < segment_bytes {
            break;
        }
    }
    count
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("slots", &self.slots).field("slot_bytes", &self.slot_bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_as_one() {
        let part = |slot: u16, start: usize, end: usize| (slot, Reply::InPlace(start..end));
        let answers = [
            part(0, 0, 10),
            part(0, 10, 20),
            part(0, 20, 25),
            // A shorter one is the last.
            part(0, 25, 35),
            part(1, 0, 10),
            // A gap: what was there got no answer.
            part(1, 20, 30),
            part(1, 30, 41),
            (1, Reply::Bytes(vec![0; 11])),
            part(2, 0, 0),
            part(2, 0, 0),
        ];
        let mut at = 0;
        let mut runs = Vec::new();
        while at < answers.len() {
            runs.push(run(&answers, at));
            at += runs.last().unwrap();
        }
        assert_eq!(runs, [3, 1, 1, 1, 1, 1, 1, 1]);
        let many: Vec<_> = (0..200).map(|n| part(0, n * 8, n * 8 + 8)).collect();
        assert_eq!(run(&many, 0), SEGMENTS_MAX);
        let long: Vec<_> = (0..64).map(|n| part(0, n * 1400, n * 1400 + 1400)).collect();
        assert_eq!(run(&long, 0), SEGMENTS_BYTES_MAX / 1400);
    }
}
