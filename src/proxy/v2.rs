//! Version 2: a binary header, with TLVs behind the addresses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::checksum;
use super::header::{Addresses, Endpoint, Fault, HEADER_BYTES_MAX, Header};
use super::tlv::{self, next, ssl};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the command, the protocol and the length.
const FIXED_BYTES: usize = 16;
const UNIX_PATH_BYTES: usize = 108;
const UNIQUE_ID_BYTES_MAX: usize = 128;

/// `missing`: what is wrong where this is something else.
pub(super) fn parse(bytes: &[u8], missing: Fault) -> Result<Option<Header<'_>>, Fault> {
    if !bytes.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
        return Err(missing);
    }
    let Some(command) = bytes.get(12) else { return Ok(None) };
    if command >> 4 != 2 {
        return Err(Fault::Version);
    }
    let is_local = match command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Fault::Command),
    };
    let Some(protocol) = bytes.get(13) else { return Ok(None) };
    let address_bytes = match protocol {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 2 * UNIX_PATH_BYTES,
        // What it says does not count.
        _ if is_local => 0,
        _ => return Err(Fault::Protocol),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(None) };
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + body_bytes > HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    if body_bytes < address_bytes && !is_local {
        return Err(Fault::AddressesCut);
    }
    let Some(bytes) = bytes.get(..FIXED_BYTES + body_bytes) else { return Ok(None) };
    let mut header =
        Header { version: 2, is_local, addresses: None, tlvs: &[], len: FIXED_BYTES + body_bytes };
    let (addresses, tlvs) = bytes.split_at(bytes.len().min(FIXED_BYTES + address_bytes));
    match if tlvs.is_empty() { Ok(()) } else { check(bytes, tlvs) } {
        Ok(()) => {}
        // Where no address is told, what stands in its place is skipped, whatever it is; a checksum holds all the same.
        Err(fault) if (is_local || *protocol == 0) && fault != Fault::Checksum => return Ok(Some(header)),
        Err(fault) => return Err(fault),
    }
    if !is_local {
        header.addresses = addresses_of(*protocol, addresses.get(FIXED_BYTES..).unwrap_or_default());
        header.tlvs = tlvs;
    }
    Ok(Some(header))
}

/// `None`: the proxy does not say.
fn addresses_of(protocol: u8, bytes: &[u8]) -> Option<Addresses<'_>> {
    let protocol = match protocol {
        0x11 => "tcp4",
        0x12 => "udp4",
        0x21 => "tcp6",
        0x22 => "udp6",
        0x31 => "unix",
        0x32 => "unix-dgram",
        _ => return None,
    };
    let (from, to) = if let Ok(&[a, b, c, d, e, f, g, h, i, j, k, l]) = <&[u8; 12]>::try_from(bytes) {
        let port = |high, low| u16::from_be_bytes([high, low]);
        let address = |ip: [u8; 4], port| Endpoint::Ip(SocketAddr::new(Ipv4Addr::from(ip).into(), port));
        (address([a, b, c, d], port(i, j)), address([e, f, g, h], port(k, l)))
    } else if let Some((from, rest)) = bytes.split_first_chunk::<16>()
        && let Some((to, &[a, b, c, d])) = rest.split_first_chunk::<16>()
    {
        let address = |ip: &[u8; 16], port| {
            Endpoint::Ip(SocketAddr::new(Ipv6Addr::from(*ip).into(), u16::from_be_bytes(port)))
        };
        (address(from, [a, b]), address(to, [c, d]))
    } else {
        let (from, to) = bytes.split_at_checked(UNIX_PATH_BYTES)?;
        (Endpoint::Unix(from), Endpoint::Unix(to))
    };
    Some(Addresses { protocol, source: from, destination: to })
}

/// Whether TLVs are well-formed, and the header is as its sender made it. `tlvs`: the end of `header`.
fn check(header: &[u8], tlvs: &[u8]) -> Result<(), Fault> {
    let mut rest = tlvs;
    let mut sum = None;
    while let Some((kind, value, after)) = next(rest)? {
        match kind {
            tlv::CRC32C if sum.is_some() => return Err(Fault::ChecksumTwice),
            tlv::CRC32C => {
                let value = <[u8; 4]>::try_from(value).map_err(|_| Fault::ChecksumSize)?;
                sum = Some((u32::from_be_bytes(value), after.len()));
            }
            tlv::UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => return Err(Fault::UniqueIdTooLong),
            tlv::SSL => {
                let (_, mut rest) = ssl(value).ok_or(Fault::TlvSslCut)?;
                while let Some((_, _, after)) = next(rest).map_err(|_| Fault::TlvSslCut)? {
                    rest = after;
                }
            }
            _ => {}
        }
        rest = after;
    }
    let Some((sum, bytes_after)) = sum else { return Ok(()) };
    let (before, after) = header.split_at(header.len() - bytes_after);
    let before = before.strip_suffix(&sum.to_be_bytes()).unwrap_or_default();
    if checksum([before, &[0; 4], after]) == sum { Ok(()) } else { Err(Fault::Checksum) }
}
