//! Datagrams in batches: recvmmsg(2) into slots that stay put, sendmmsg(2) of the answers out of them.
//!
//! A batch receives, the caller looks at each slot and says what goes back, [`Batch::send`] sends all of it.
//! The peer's name and the address that a datagram was sent to stay in the slot as the kernel wrote them, so
//! an answer leaves from that very address (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{peer_of, syscall};
use crate::peer::Peer;

/// Room for one in_pktinfo and one in6_pktinfo with their headers.
const CONTROL_BYTES: usize = 96;

/// Control buffers are read and written as `cmsghdr`, whose alignment is that of a size_t.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Where a datagram was sent to, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The socket is bound to one address, or is a unix socket.
    Bound,
    /// This address of ours.
    Unicast(IpAddr),
    /// A broadcast or multicast address.
    Group,
}

/// What came with one datagram.
#[derive(Debug)]
pub(crate) struct Received {
    pub peer: Peer,
    pub destination: Destination,
    pub len: usize,
    /// The datagram was longer than the slot: its end is lost.
    pub truncated: bool,
}

/// What goes back to the sender of a slot's datagram.
#[derive(Debug)]
pub(crate) enum Reply {
    None,
    /// This part of the slot itself.
    InPlace(Range<usize>),
    Bytes(Vec<u8>),
}

/// Where an answer goes and from which address of ours, for one that leaves after its batch is gone.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    name: libc::sockaddr_storage,
    name_len: usize,
    control: Option<(Control, usize)>,
}

impl Envelope {
    /// sendmsg(2) of one datagram.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = self.control;
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_name = (&raw const self.name).cast_mut().cast();
        message.msg_namelen = self.name_len as libc::socklen_t;
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if let Some((control, len)) = &mut control {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = *len as _;
        }
        // SAFETY: the header points to memory of this call and of `self`; sendmsg writes to none of it.
        let n = syscall!(unsafe {
            libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        })?;
        Ok(n as usize)
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({})", peer_of(&self.name, self.name_len))
    }
}

/// Slots for one recvmmsg and one sendmmsg. Everything the kernel's structures point at is owned here and
/// does not move while a batch lives.
pub(crate) struct Batch {
    slots: usize,
    slot_bytes: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    name_lens: Vec<usize>,
    controls: Vec<Control>,
    /// Scratch for the calls; the pointers in it are set anew before each.
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

// SAFETY: the raw pointers in `parts` and `headers` are written and used within one call of `&mut self`.
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
            name_lens: vec![0; slots],
            controls: vec![Control([0; CONTROL_BYTES]); slots],
            parts: vec![part; slots],
            headers: vec![header; slots],
            received: 0,
        }
    }

    /// How many datagrams one receive can bring.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// recvmmsg: how many slots are filled. Each takes at most `max_bytes`; fewer than all slots filled means
    /// that the socket's queue was empty. `control`: the socket reports destinations.
    pub(crate) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        max_bytes: usize,
        control: bool,
    ) -> io::Result<usize> {
        self.received = 0;
        let room = max_bytes.min(self.slot_bytes);
        for index in 0..self.slots {
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
        // SAFETY: `slots` headers, each over memory of its own that this batch owns and does not move.
        let n = syscall!(unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.slots as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })?;
        self.received = n as usize;
        for (header, len) in self.headers.iter().zip(&mut self.name_lens).take(self.received) {
            *len = header.msg_hdr.msg_namelen as usize;
        }
        Ok(self.received)
    }

    /// What came in slot `index`. Control data is read here, before an answer may overwrite it.
    pub(crate) fn received(&self, index: usize) -> Received {
        debug_assert!(index < self.received);
        let header = &self.headers[index];
        Received {
            peer: peer_of(&self.names[index], self.name_lens[index]),
            destination: destination_of(&header.msg_hdr),
            len: (header.msg_len as usize).min(self.slot_bytes),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Where an answer to slot `index` is to go.
    pub(crate) fn envelope(&self, index: usize) -> Envelope {
        let control = answer_control(&self.headers[index].msg_hdr);
        Envelope { name: self.names[index], name_len: self.name_lens[index], control }
    }

    /// The bytes of slot `index`, all of the slot.
    pub(crate) fn slot(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.slot_bytes..][..self.slot_bytes]
    }

    /// Sends each answer to the sender of its slot, in order, and empties `replies`. `outcome` hears for each
    /// slot that had an answer how it went. An error of one never keeps back the others.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        replies: &mut [Reply],
        mut outcome: impl FnMut(usize, io::Result<usize>),
    ) {
        let mut count = 0;
        let mut order = [0u16; u16::BITS as usize * 16];
        for (index, reply) in replies.iter().enumerate().take(self.received.min(order.len())) {
            let (base, len) = match reply {
                Reply::None => continue,
                Reply::InPlace(range) => {
                    let slot = &self.bytes[index * self.slot_bytes..][..self.slot_bytes];
                    let part = &slot[range.clone()];
                    (part.as_ptr(), part.len())
                }
                Reply::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
            };
            let control = answer_control(&self.headers[index].msg_hdr);
            order[count] = index as u16;
            self.parts[index] = libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len };
            let mut header = libc::mmsghdr { msg_len: 0, ..self.headers[index] };
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = self.name_lens[index] as libc::socklen_t;
            header.msg_hdr.msg_iov = &mut self.parts[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
            match control {
                Some((control, len)) => {
                    self.controls[index] = control;
                    header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
                    header.msg_hdr.msg_controllen = len as _;
                }
                None => {
                    header.msg_hdr.msg_control = ptr::null_mut();
                    header.msg_hdr.msg_controllen = 0;
                }
            }
            // `count <= index`: the header that is overwritten has been read already.
            self.headers[count] = header;
            count += 1;
        }
        let mut done = 0;
        let mut retried = None;
        while done < count {
            // SAFETY: headers[done..count] were filled above and point into memory that this batch or
            // `replies` owns; neither moves during the call.
            let result = syscall!(unsafe {
                libc::sendmmsg(
                    fd.as_raw_fd(),
                    self.headers[done..].as_mut_ptr(),
                    (count - done) as _,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            });
            match result {
                // sendmmsg never answers 0 for a positive count; treat it as an error and not as a loop.
                Ok(0) => {
                    outcome(usize::from(order[done]), Err(io::ErrorKind::WriteZero.into()));
                    done += 1;
                }
                Ok(sent) => {
                    for _ in 0..sent {
                        outcome(usize::from(order[done]), Ok(self.headers[done].msg_len as usize));
                        done += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // On a socket that hears of refusals, each stops the next send, whomever that is for (udp(7)).
                Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) && retried != Some(done) => {
                    retried = Some(done);
                }
                Err(error) => {
                    outcome(usize::from(order[done]), Err(error));
                    done += 1;
                }
            }
        }
        self.received = 0;
        replies.fill_with(|| Reply::None);
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("slots", &self.slots).field("slot_bytes", &self.slot_bytes).finish()
    }
}

/// One message of a control buffer.
enum Info {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// Calls `found` for each packet information in a received header.
fn for_each_info(header: &libc::msghdr, mut found: impl FnMut(Info)) {
    if header.msg_control.is_null() || header.msg_controllen == 0 {
        return;
    }
    // SAFETY: the kernel filled the control buffer and its length; the CMSG macros walk it within that length,
    // and the data that is read has the type that level and type of its header say.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    found(Info::V4(ptr::read_unaligned(data.cast::<libc::in_pktinfo>())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    found(Info::V6(ptr::read_unaligned(data.cast::<libc::in6_pktinfo>())));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

fn destination_of(header: &libc::msghdr) -> Destination {
    let mut destination = Destination::Bound;
    for_each_info(header, |info| match info {
        Info::V4(info) => {
            let sent_to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            // For a broadcast or multicast packet the kernel gives an address of the interface here (ip(7)).
            let local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            destination = if sent_to == local && !sent_to.is_multicast() && !sent_to.is_broadcast() {
                Destination::Unicast(IpAddr::V4(sent_to))
            } else {
                Destination::Group
            };
        }
        Info::V6(info) => {
            let sent_to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // An IPv4 packet on a dual-stack socket brings both; the IPv4 one says more.
            if sent_to.to_ipv4_mapped().is_none() {
                destination = if sent_to.is_multicast() {
                    Destination::Group
                } else {
                    Destination::Unicast(IpAddr::V6(sent_to))
                };
            }
        }
    });
    destination
}

/// The control data that makes an answer leave from the address its request was sent to.
fn answer_control(received: &libc::msghdr) -> Option<(Control, usize)> {
    let mut answer = None;
    for_each_info(received, |info| match info {
        Info::V4(info) => {
            // No interface: the route decides, as for any socket that is bound to that address.
            let back =
                libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_spec_dst, ipi_addr: info.ipi_addr };
            answer = Some(control_message(libc::IPPROTO_IP, libc::IP_PKTINFO, back));
        }
        Info::V6(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if ip.to_ipv4_mapped().is_none() {
                // A link-local address means nothing without its interface.
                let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
                let ifindex = if link_local { info.ipi6_ifindex } else { 0 };
                let back = libc::in6_pktinfo { ipi6_addr: info.ipi6_addr, ipi6_ifindex: ifindex };
                answer = Some(control_message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, back));
            }
        }
    });
    answer
}

/// A control buffer with one message, and its length.
fn control_message<T: Copy>(level: i32, kind: i32, data: T) -> (Control, usize) {
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: the buffer is aligned for cmsghdr and, as the assertion says, has room for one message with a T.
    unsafe {
        let space = libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
        assert!(space <= CONTROL_BYTES);
        let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), data);
        (control, space)
    }
}
