//! Names and headers as the kernel writes them in front of a datagram.

use std::mem::MaybeUninit;

/// Bytes that the kernel may put in front of a datagram where it comes with its name and control messages.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_storage>();

/// A header as recvmsg(2) would have filled it with these control messages.
pub(super) fn header_over(control: &[u8]) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zero is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_control = control.as_ptr().cast_mut().cast();
    header.msg_controllen = control.len() as _;
    header
}

/// The port that a datagram comes from, if the name that came with it is an IP address and a port that can be answered, as
/// far as its first bytes tell; else 0. Of others a closer look does.
#[inline]
pub(crate) fn plain_port(name: &[u8]) -> u16 {
    // As sockaddr_in and sockaddr_in6 begin: family, port; address, or flow and address (ip(7), ipv6(7)).
    let Some([family_0, family_1, port_0, port_1, v4, _, _, _, v6]) = name.first_chunk() else {
        return 0;
    };
    let is_usual = match i32::from(libc::sa_family_t::from_ne_bytes([*family_0, *family_1])) {
        // Neither "this network", nor multicast and what is above.
        libc::AF_INET => (1..224).contains(v4),
        // Neither unspecified nor IPv4-mapped, nor multicast.
        libc::AF_INET6 => (1..255).contains(v6),
        _ => false,
    };
    if is_usual { u16::from_be_bytes([*port_0, *port_1]) } else { 0 }
}
