//! Slots for one recvmmsg, and what sendmmsg takes out of them.

#[cfg(test)]
mod tests;

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::control::{self, CONTROL_BYTES, Control, ControlInfo, LocalAddr, Sending};
use super::name::plain_port;
use super::reply::{Reply, ReplyTo};
use crate::peer::Peer;
use crate::sys::call::{transfer, wide};
use crate::sys::memory::zeroed;
use crate::sys::names::read_peer;

/// Datagrams that one send may carry: what Linux has allowed since it can (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;
/// Bytes of them together: as an IPv4 datagram, which they are on the way through the kernel.
const SEGMENTS_BYTES_MAX: usize = 65_507;

/// One of the datagrams that a receive brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub destination: LocalAddr,
    /// The datagram was longer than the slot: its end is lost.
    pub truncated: bool,
    /// See [`plain_port`].
    pub plain_port: u16,
    /// The hop limit it arrived with, where the socket reports it; else 0.
    pub hops: u8,
}

/// Slots for one recvmmsg and one sendmmsg. Everything the kernel's structures point at is owned here and
/// does not move while a batch lives.
///
/// [`receive`](Batch::receive) fills slots, [`next`](Batch::next) walks what is in them, each datagram gets at most one
/// answer, and [`send`](Batch::send) sends all of those.
pub(crate) struct Batch {
    slots: usize,
    slot_bytes: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
    /// What the headers are prepared for: bytes, and control messages or not.
    prepared: Option<(usize, bool)>,
    /// The next slot to look at.
    next_slot: usize,
    current: Current,
    answers: Vec<Answer>,
    /// Memory of answers that do not stand in their slots.
    owned: Vec<Vec<u8>>,
    /// Some slot came with control messages that its answer needs.
    has_controls: bool,
    sending_headers: Vec<libc::mmsghdr>,
    sending_controls: Vec<Sending>,
    /// The kernel has refused to cut a send into datagrams.
    refuses_segments: bool,
}

/// The datagram that was reached: `start..end` of a slot whose bytes begin at `base` and of which `slot_end` are filled, cut
/// every `segment_bytes`.
#[derive(Debug, Clone, Copy)]
struct Current {
    slot: usize,
    base: usize,
    start: usize,
    end: usize,
    slot_end: usize,
    segment_bytes: usize,
    destination: LocalAddr,
    plain_port: u16,
    hops: u8,
}

impl Current {
    const NOTHING: Current = Current {
        slot: 0,
        base: 0,
        start: 0,
        end: 0,
        slot_end: 0,
        segment_bytes: 0,
        destination: LocalAddr::Bound,
        plain_port: 0,
        hops: 0,
    };
}

/// One message of a sendmmsg: an answer, or several that leave as one.
struct Answer {
    part: libc::iovec,
    /// To the sender of what is in this slot.
    slot: usize,
    run: Run,
}

// SAFETY: the raw pointers in headers, parts and answers point to what this batch owns and does not move, and are used by
// its `&mut self` calls only.
unsafe impl Send for Batch {}

impl Batch {
    /// A batch of `slots` datagrams of at most `slot_bytes` each. The memory is only mapped when it is used. `None`: there is not
    /// so much.
    pub(crate) fn new(slots: usize, slot_bytes: usize) -> Option<Batch> {
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
        Some(Batch {
            slots,
            slot_bytes,
            bytes: zeroed(slots * slot_bytes)?,
            names: vec![name; slots],
            controls: vec![Control::EMPTY; slots],
            parts: vec![part; slots],
            headers: vec![header; slots],
            received: 0,
            prepared: None,
            next_slot: 0,
            current: Current::NOTHING,
            answers: Vec::with_capacity(slots),
            owned: Vec::new(),
            has_controls: false,
            sending_headers: vec![header; slots],
            sending_controls: vec![Sending::NOTHING; slots],
            refuses_segments: false,
        })
    }

    /// How many slots one receive can fill.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// recvmmsg: how many slots are filled. Each takes at most `max_bytes`; fewer than all slots filled means
    /// that the socket's queue was empty. `control`: the socket has something to say about each. What was there before is
    /// forgotten.
    pub(crate) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        max_bytes: usize,
        control: bool,
    ) -> io::Result<usize> {
        self.forget();
        let room = max_bytes.min(self.slot_bytes);
        self.prepare(room, control);
        let (headers, slots) = (self.headers.as_mut_ptr(), self.slots);
        let forever = ptr::null_mut::<libc::timespec>();
        // SAFETY: `slots` headers, each over memory of its own that this batch owns and does not move. By syscall(2), like
        // all calls that messages make.
        let result = transfer!(unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                wide(fd.as_raw_fd()),
                headers,
                slots,
                wide(libc::MSG_DONTWAIT),
                forever,
            )
        });
        match result {
            Ok(count) => {
                self.received = count.min(self.slots);
                Ok(count)
            }
            Err(error) => {
                // Whether it touched the first is not said.
                self.received = 1;
                self.prepare(room, control);
                Err(error)
            }
        }
    }

    /// Forgets what was received, and the answers to it.
    fn forget(&mut self) {
        (self.next_slot, self.current) = (0, Current::NOTHING);
        self.has_controls = false;
        self.answers.clear();
        self.owned.clear();
    }

    /// Lets the headers point to their slots. The kernel has changed those only that it filled, and there the lengths of
    /// name and control messages, of what it looks at.
    #[inline]
    fn prepare(&mut self, room: usize, control: bool) {
        if self.prepared != Some((room, control)) {
            self.prepare_all(room, control);
        }
        let control_bytes = if control { CONTROL_BYTES } else { 0 };
        for header in self.headers.iter_mut().take(self.received) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = control_bytes as _;
        }
        self.received = 0;
    }

    #[cold]
    fn prepare_all(&mut self, room: usize, control: bool) {
        for index in 0..self.slots {
            self.parts[index] = libc::iovec {
                iov_base: self.bytes[index * self.slot_bytes..].as_mut_ptr().cast(),
                iov_len: room,
            };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_iov = &raw mut self.parts[index];
            header.msg_iovlen = 1;
            header.msg_control =
                if control { self.controls[index].0.as_mut_ptr().cast() } else { ptr::null_mut() };
        }
        self.received = self.slots;
        self.prepared = Some((room, control));
    }

    /// Goes to the next datagram, if there is one.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(Received, &mut [u8])> {
        let truncated = if self.current.end < self.current.slot_end {
            self.next_segment();
            false
        } else {
            self.enter_slot()?
        };
        let Current { destination, plain_port, hops, .. } = self.current;
        Some((Received { destination, truncated, plain_port, hops }, self.datagram()))
    }

    /// Goes to the next slot, if there is one; whether the end of what came in it is lost.
    #[inline]
    fn enter_slot(&mut self) -> Option<bool> {
        let slot = self.next_slot;
        if slot >= self.received {
            return None;
        }
        let (header, name) = (self.headers.get(slot)?, self.names.get(slot)?);
        let len = (header.msg_len as usize).min(self.slot_bytes);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let has_control = header.msg_hdr.msg_controllen > 0;
        self.next_slot = slot + 1;
        self.current = Current {
            slot,
            base: slot * self.slot_bytes,
            start: 0,
            end: len,
            slot_end: len,
            segment_bytes: len,
            destination: LocalAddr::Bound,
            plain_port: plain_port(bytes_of(name, header.msg_hdr.msg_namelen)),
            hops: 0,
        };
        if has_control {
            self.read_control(slot);
        }
        Some(truncated)
    }

    /// Notes what the control messages of a slot say.
    fn read_control(&mut self, index: usize) {
        let info = control::read(&self.headers[index].msg_hdr);
        let ControlInfo { to, segment_bytes, hops } = info;
        let current = &mut self.current;
        (current.destination, current.hops) = (to, hops);
        if segment_bytes > 0 {
            current.segment_bytes = segment_bytes;
            current.end = current.slot_end.min(segment_bytes);
        }
        self.has_controls |= info.says_destination() || segment_bytes > 0;
    }

    /// Of several that came as one: all have the same sender and went to the same address.
    fn next_segment(&mut self) {
        let current = &mut self.current;
        current.start = current.end;
        current.end = current.slot_end.min(current.start + current.segment_bytes);
    }

    /// The bytes of the datagram that was reached.
    #[inline]
    pub(crate) fn datagram(&mut self) -> &mut [u8] {
        let Current { base, start, end, .. } = self.current;
        self.bytes.get_mut(base + start..base + end).unwrap_or_default()
    }

    /// Who sent it, in the memory that `peer` has.
    pub(crate) fn read_sender(&self, peer: &mut Peer) {
        let index = self.current.slot;
        read_peer(peer, &self.names[index], self.headers[index].msg_hdr.msg_namelen as usize);
    }

    /// Where an answer to it is to go.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        self.reply_to_slot(self.current.slot)
    }

    /// Answers it with a part of itself.
    #[inline]
    pub(crate) fn reply_in_place(&mut self, range: Range<usize>) {
        let Current { slot, base, start, end, .. } = self.current;
        let range = start + range.start..start + range.end;
        debug_assert!(range.end <= end, "an answer is a part of its datagram");
        if start > 0 && self.extend_run(&range) {
            return;
        }
        let part = self.bytes.get_mut(base + range.start..base + range.end).unwrap_or_default();
        let part = libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
        self.answers.push(Answer { part, slot, run: Run::of(&range) });
    }

    /// Answers it with bytes of its own.
    pub(crate) fn reply(&mut self, bytes: Vec<u8>) {
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.answers.push(Answer { part, slot: self.current.slot, run: Run::NOTHING });
        self.owned.push(bytes);
    }

    /// Lets a part of the slot leave with the one before it, where they may leave as one.
    fn extend_run(&mut self, range: &Range<usize>) -> bool {
        let slot = self.current.slot;
        let Some(last) = self.answers.last_mut() else { return false };
        if last.slot != slot || self.refuses_segments || !last.run.take(range) {
            return false;
        }
        last.part.iov_len += range.len();
        true
    }

    fn reply_to_slot(&self, index: usize) -> ReplyTo {
        let (name, header) = (self.names[index], &self.headers[index].msg_hdr);
        let name_len = name_len(&name, header.msg_namelen) as usize;
        ReplyTo { name, name_len, control: control::back_to(header) }
    }

    /// Sends the answers to the senders of their slots, in order. `outcome` hears of so many answers at a time how they
    /// went: of all that left in place together, and of any other by itself. An error of one never keeps back the others.
    /// The memory of those that do not stand in their slots is left in `spent`.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        spent: &mut Vec<Vec<u8>>,
        mut outcome: impl FnMut(usize, io::Result<usize>),
    ) {
        let mut sent = Sum::default();
        let mut first = 0;
        while first < self.answers.len() {
            let count = self.fill(first);
            self.flush(fd, first, count, &mut sent, &mut outcome);
            first += count;
        }
        if sent.answers > 0 {
            outcome(sent.answers, Ok(sent.bytes));
        }
        self.answers.clear();
        spent.append(&mut self.owned);
    }

    /// Prepares as many answers as there are headers, from `first` on; how many.
    #[inline]
    fn fill(&mut self, first: usize) -> usize {
        let count = (self.answers.len() - first).min(self.slots);
        for (answer, header) in self.answers[first..].iter_mut().zip(&mut self.sending_headers) {
            let (name, received) = (&mut self.names[answer.slot], &self.headers[answer.slot]);
            header.msg_hdr.msg_namelen = name_len(name, received.msg_hdr.msg_namelen);
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_iov = &raw mut answer.part;
            header.msg_hdr.msg_iovlen = 1;
        }
        if self.has_controls {
            self.fill_controls(first, count);
        }
        count
    }

    /// Gives the answers their control messages. Several leave as one only where they came as one.
    fn fill_controls(&mut self, first: usize, count: usize) {
        for place in 0..count {
            let Answer { slot, run, .. } = &self.answers[first + place];
            let mut control = control::back_to(&self.headers[*slot].msg_hdr);
            if run.count > 1 {
                control.cut_into(run.segment_bytes as u16);
            }
            self.sending_controls[place] = control;
            self.sending_controls[place].attach(&mut self.sending_headers[place].msg_hdr);
        }
    }

    /// Sends what was prepared.
    fn flush(
        &mut self,
        fd: BorrowedFd<'_>,
        first: usize,
        count: usize,
        sum: &mut Sum,
        outcome: &mut impl FnMut(usize, io::Result<usize>),
    ) {
        const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut done = 0;
        let mut retried = None;
        while done < count {
            let headers = self.sending_headers[done..count].as_mut_ptr();
            // SAFETY: sending_headers[done..count] were filled by `fill` and point into memory that this batch owns;
            // none of it moves during the call.
            let result = transfer!(unsafe {
                libc::syscall(libc::SYS_sendmmsg, wide(fd.as_raw_fd()), headers, count - done, wide(FLAGS))
            });
            let error = match result {
                // sendmmsg never answers 0 for a positive count; treat it as an error and not as a loop.
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(sent) => {
                    let end = count.min(done + sent);
                    self.add_up(first, done..end, sum, outcome);
                    done = end;
                    continue;
                }
                Err(error) => error,
            };
            // On a socket that hears of refusals, each stops the next send, whomever that is for (udp(7)).
            if error.raw_os_error() == Some(libc::ECONNREFUSED) && retried != Some(done) {
                retried = Some(done);
                continue;
            }
            self.take_error(fd, first + done, error, outcome);
            done += 1;
        }
        if self.has_controls {
            for header in &mut self.sending_headers[..count] {
                control::detach(&mut header.msg_hdr);
            }
        }
    }

    /// Adds up what has left, or tells of it one by one where memory comes back with each.
    #[inline]
    fn add_up(
        &self,
        first: usize,
        done: Range<usize>,
        sum: &mut Sum,
        outcome: &mut impl FnMut(usize, io::Result<usize>),
    ) {
        let answers = self.answers[first + done.start..].iter();
        for (answer, header) in answers.zip(&self.sending_headers[done]) {
            let (count, bytes) = (answer.run.count, header.msg_len as usize);
            if self.owned.is_empty() {
                sum.answers += count;
                sum.bytes += bytes;
            } else {
                outcome(count, Ok(bytes));
            }
        }
    }

    #[cold]
    fn take_error(
        &mut self,
        fd: BorrowedFd<'_>,
        index: usize,
        error: io::Error,
        outcome: &mut impl FnMut(usize, io::Result<usize>),
    ) {
        let count = self.answers[index].run.count;
        if count == 1 || error.kind() == io::ErrorKind::WouldBlock {
            return outcome(count, Err(error));
        }
        // The way there may not do that: no checksums by the device (EIO), or segments that have to be
        // fragmented (EMSGSIZE, EINVAL). Each by itself then, and on another route perhaps for good.
        self.refuses_segments |= error.raw_os_error() == Some(libc::EIO);
        let Answer { slot, run: Run { start, end, segment_bytes, .. }, .. } = self.answers[index];
        let reply_to = self.reply_to_slot(slot);
        for start in (start..end).step_by(segment_bytes.max(1)) {
            let base = slot * self.slot_bytes;
            let part = base + start..base + end.min(start + segment_bytes);
            let bytes = self.bytes.get(part).unwrap_or_default();
            loop {
                match reply_to.send(fd, bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break outcome(1, result),
                }
            }
        }
    }
}

/// A name as the kernel wrote it.
#[inline]
fn bytes_of(name: &libc::sockaddr_storage, len: libc::socklen_t) -> &[u8] {
    let len = (len as usize).min(size_of::<libc::sockaddr_storage>());
    // SAFETY: plain data that was zeroed at first, of no fewer bytes.
    unsafe { std::slice::from_raw_parts((&raw const *name).cast(), len) }
}

/// How many bytes of a name the kernel takes back. For a path that fills all of `sun_path` it counts the NUL that has no room
/// there, and takes no name of that length (unix(7), BUGS).
#[inline]
fn name_len(name: &libc::sockaddr_storage, len: libc::socklen_t) -> libc::socklen_t {
    if i32::from(name.ss_family) == libc::AF_UNIX {
        len.min(size_of::<libc::sockaddr_un>() as libc::socklen_t)
    } else {
        len
    }
}

/// What has left.
#[derive(Default)]
struct Sum {
    answers: usize,
    bytes: usize,
}

/// Answers that may leave as one: parts of one slot that lie side by side, all of the same length but the last, which may
/// be shorter.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    segment_bytes: usize,
    count: usize,
}

impl Run {
    /// One that does not stand in its slot, or an empty one: nothing leaves with it.
    const NOTHING: Run = Run { start: 0, end: 0, segment_bytes: 0, count: 1 };

    #[inline]
    fn of(range: &Range<usize>) -> Run {
        Run { start: range.start, end: range.end, segment_bytes: range.len(), count: 1 }
    }

    /// Takes one more, if it may leave with those that there are.
    fn take(&mut self, next: &Range<usize>) -> bool {
        let is_closed = self.end - self.start < self.count * self.segment_bytes;
        let fits = self.count < SEGMENTS_MAX && next.end.saturating_sub(self.start) <= SEGMENTS_BYTES_MAX;
        let is_next = next.start == self.end && !next.is_empty() && next.len() <= self.segment_bytes;
        if is_closed || !fits || !is_next {
            return false;
        }
        self.end = next.end;
        self.count += 1;
        true
    }
}

/// How many answers from `at` on may leave as one.
pub(crate) fn run(answers: &[(u16, Reply)], at: usize) -> usize {
    let Some((slot, Reply::InPlace(first))) = answers.get(at) else { return 1 };
    let mut run = Run::of(first);
    for (other, reply) in answers.get(at + 1..).unwrap_or_default() {
        match reply {
            Reply::InPlace(range) if other == slot && run.take(range) => {}
            _ => break,
        }
    }
    run.count
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("slots", &self.slots).field("slot_bytes", &self.slot_bytes).finish()
    }
}
