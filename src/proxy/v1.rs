//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{FromStr, from_utf8};

use super::header::{Addresses, Endpoint, Fault, Header};

const BEGIN: &[u8] = b"PROXY ";
/// The longest line, with its end.
const LINE_BYTES_MAX: usize = 107;

/// `missing`: what is wrong where this is something else.
pub(super) fn parse(bytes: &[u8], missing: Fault) -> Result<Option<Header<'_>>, Fault> {
    if !bytes.iter().zip(BEGIN).all(|(byte, expected)| byte == expected) {
        return Err(missing);
    }
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if window.len() == LINE_BYTES_MAX { Err(Fault::LineTooLong) } else { Ok(None) };
    };
    let line = window.get(BEGIN.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let addresses = addresses(line.ok_or(Fault::LineEnd)?)?;
    Ok(Some(Header { version: 1, is_local: false, addresses, tlvs: &[], len: end + 1 }))
}

fn addresses(line: &[u8]) -> Result<Option<Addresses<'_>>, Fault> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (protocol, parse_ip): (_, fn(&str) -> Option<IpAddr>) = match fields.next() {
        // Whatever follows does not count.
        Some(b"UNKNOWN") => return Ok(None),
        Some(b"TCP4") => ("tcp4", |text| Ipv4Addr::from_str(text).ok().map(IpAddr::V4)),
        Some(b"TCP6") => ("tcp6", |text| Ipv6Addr::from_str(text).ok().map(IpAddr::V6)),
        _ => return Err(Fault::LineProtocol),
    };
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Fault::LineFields);
    };
    let ip = |field: &[u8], fault| from_utf8(field).ok().and_then(parse_ip).ok_or(fault);
    let (from, to) = (ip(from, Fault::SourceAddress)?, ip(to, Fault::DestinationAddress)?);
    let from_port = port(from_port).ok_or(Fault::SourcePort)?;
    let to_port = port(to_port).ok_or(Fault::DestinationPort)?;
    Ok(Some(Addresses {
        protocol,
        source: Endpoint::Ip(SocketAddr::new(from, from_port)),
        destination: Endpoint::Ip(SocketAddr::new(to, to_port)),
    }))
}

/// Digits without a zero in front.
fn port(field: &[u8]) -> Option<u16> {
    let is_plain = matches!(field, [b'0'] | [b'1'..=b'9', ..]) && field.iter().all(u8::is_ascii_digit);
    from_utf8(field).ok().filter(|_| is_plain)?.parse().ok()
}
