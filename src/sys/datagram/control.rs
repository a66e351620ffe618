//! Control messages of datagrams: where one was sent to, where its answer is to leave from, how it was cut.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;

use crate::sys::sockets::is_group;

/// Room for what comes with a datagram. Beside what this module asks for, a socket that was handed over may report
/// timestamps, hop limits and the like, and what has no room is lost (`MSG_CTRUNC`, recvmsg(2)).
pub(crate) const CONTROL_BYTES: usize = 512;
/// Room for one in_pktinfo, one in6_pktinfo and one segment size, with their headers.
const SENDING_BYTES: usize = 96;

/// Where a datagram was sent to, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalAddr {
    /// The socket is bound to one address, or is a unix socket.
    Bound,
    /// An address of ours.
    Unicast,
    /// A broadcast or multicast address.
    Group,
}

/// Control buffers are read and written as `cmsghdr`, whose alignment is that of a size_t.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control<const BYTES: usize = CONTROL_BYTES>(pub(super) [u8; BYTES]);

impl<const BYTES: usize> Control<BYTES> {
    pub(super) const EMPTY: Control<BYTES> = Control([0; BYTES]);
}

/// Control messages that go with an answer.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    control: Control<SENDING_BYTES>,
    len: usize,
}

impl Sending {
    pub(super) const NOTHING: Sending = Sending { control: Control::EMPTY, len: 0 };

    /// Adds one message. There is room for all that this module makes.
    fn push<T: Copy>(&mut self, level: i32, kind: i32, data: T) {
        // SAFETY: the buffer is aligned for cmsghdr, messages begin at multiples of that, and, as the assertion says,
        // there is room for one more with a T.
        unsafe {
            let space = libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
            assert!(self.len + space <= SENDING_BYTES);
            let header = self.control.0.as_mut_ptr().add(self.len).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), data);
            self.len += space;
        }
    }

    /// The bytes are several datagrams of so many bytes each, of which the last may be shorter (`UDP_SEGMENT`, udp(7)).
    pub(super) fn cut_into(&mut self, segment_bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment_bytes);
    }

    /// Lets a header point here.
    pub(super) fn attach(&mut self, header: &mut libc::msghdr) {
        if self.len == 0 {
            return detach(header);
        }
        header.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_controllen = self.len as _;
    }
}

/// Lets a header point to no control messages.
pub(super) fn detach(header: &mut libc::msghdr) {
    header.msg_control = ptr::null_mut();
    header.msg_controllen = 0;
}

/// One message of a control buffer.
enum Info {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
    Segment(i32),
    HopLimit(i32),
}

/// What control messages say of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ControlInfo {
    pub to: LocalAddr,
    /// How long each is where several came as one (`UDP_GRO`, udp(7)); 0: it is one.
    pub segment_bytes: usize,
    /// The hop limit it arrived with (`IP_RECVTTL`, ip(7); `IPV6_RECVHOPLIMIT`, RFC 3542); 0 where the socket does not
    /// report it.
    pub hops: u8,
}

impl ControlInfo {
    pub(super) const NOTHING: ControlInfo = ControlInfo { to: LocalAddr::Bound, segment_bytes: 0, hops: 0 };

    /// Whether an answer needs control messages of its own, apart from how it is cut.
    pub(crate) fn says_destination(&self) -> bool {
        self.to != LocalAddr::Bound
    }
}

/// Calls `found` for each message in a received header that means something here.
fn for_each_info(header: &libc::msghdr, mut found: impl FnMut(Info)) {
    if header.msg_control.is_null() || header.msg_controllen == 0 {
        return;
    }
    // SAFETY: the kernel filled the control buffer and its length; the CMSG macros walk it within that length,
    // and the data that is read has the type that level and type of its header say, and is all there: the kernel cuts
    // off the end of the last one where there is no room.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            let len = (*message).cmsg_len as usize;
            let holds = |bytes: usize| len >= libc::CMSG_LEN(bytes as u32) as usize;
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                    found(Info::V4(ptr::read_unaligned(data.cast::<libc::in_pktinfo>())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(size_of::<libc::in6_pktinfo>()) => {
                    found(Info::V6(ptr::read_unaligned(data.cast::<libc::in6_pktinfo>())));
                }
                (libc::SOL_UDP, libc::UDP_GRO) if holds(size_of::<i32>()) => {
                    found(Info::Segment(ptr::read_unaligned(data.cast::<i32>())));
                }
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
                    if holds(size_of::<i32>()) =>
                {
                    found(Info::HopLimit(ptr::read_unaligned(data.cast::<i32>())));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

/// What came with a datagram.
#[inline]
pub(super) fn read(header: &libc::msghdr) -> ControlInfo {
    match only_hops(header) {
        Some(hops) => ControlInfo { hops, ..ControlInfo::NOTHING },
        None => read_all(header),
    }
}

/// The hop limit, where nothing else came, which is the case of most.
#[inline]
fn only_hops(header: &libc::msghdr) -> Option<u8> {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, len) = unsafe { (libc::CMSG_SPACE(4) as usize, libc::CMSG_LEN(4) as usize) };
    if header.msg_control.is_null() || header.msg_controllen != space {
        return None;
    }
    // SAFETY: the kernel filled the control buffer, which is aligned for cmsghdr, and its length: there is room for one
    // message with an int, and none for more.
    let (level, kind, message_len, limit) = unsafe {
        let message = header.msg_control.cast::<libc::cmsghdr>();
        let limit = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<i32>());
        ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len, limit)
    };
    let is_hops =
        matches!((level, kind), (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT));
    (is_hops && message_len == len).then(|| u8::try_from(limit).unwrap_or(0))
}

fn read_all(header: &libc::msghdr) -> ControlInfo {
    let ControlInfo { to: mut destination, mut segment_bytes, mut hops } = ControlInfo::NOTHING;
    for_each_info(header, |info| match info {
        Info::V4(info) if is_from_before(&info) => {
            let sent_to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            // It is ours or a group's, else the datagram would not be here.
            let is_group = is_group(sent_to.into()).unwrap_or(false);
            destination = if is_group { LocalAddr::Group } else { LocalAddr::Unicast };
        }
        Info::V4(info) => {
            let sent_to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            // For a broadcast or multicast packet the kernel gives an address of the interface here (ip(7)).
            let local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            destination = if sent_to == local && !sent_to.is_multicast() && !sent_to.is_broadcast() {
                LocalAddr::Unicast
            } else {
                LocalAddr::Group
            };
        }
        Info::V6(info) => {
            let sent_to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // An IPv4 packet on a dual-stack socket brings both; the IPv4 one says more.
            if sent_to.to_ipv4_mapped().is_none() {
                destination = if sent_to.is_multicast() { LocalAddr::Group } else { LocalAddr::Unicast };
            }
        }
        Info::Segment(bytes) => segment_bytes = usize::try_from(bytes).unwrap_or(0),
        Info::HopLimit(limit) => hops = u8::try_from(limit).unwrap_or(0),
    });
    ControlInfo { to: destination, segment_bytes, hops }
}

/// Whether a datagram was in the queue already when the socket was asked to say where each was sent to: the kernel notes
/// the interface, and the address to answer from, only as one arrives. What it was sent to stands in its header.
fn is_from_before(info: &libc::in_pktinfo) -> bool {
    info.ipi_ifindex == 0 && info.ipi_spec_dst.s_addr == 0
}

/// What makes an answer leave from the address its request was sent to.
pub(super) fn back_to(received: &libc::msghdr) -> Sending {
    let mut back = Sending::NOTHING;
    for_each_info(received, |info| match info {
        Info::V4(info) => {
            let from = if is_from_before(&info) { info.ipi_addr } else { info.ipi_spec_dst };
            // No interface: the route decides, as for any socket that is bound to that address.
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: info.ipi_addr };
            back.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Info::V6(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if ip.to_ipv4_mapped().is_none() {
                // A link-local address means nothing without its interface.
                let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
                let ifindex = if link_local { info.ipi6_ifindex } else { 0 };
                let info = libc::in6_pktinfo { ipi6_addr: info.ipi6_addr, ipi6_ifindex: ifindex };
                back.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
        // The hop limit of an answer is the socket's.
        Info::Segment(_) | Info::HopLimit(_) => {}
    });
    back
}
