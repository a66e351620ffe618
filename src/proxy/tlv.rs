//! What stands behind the addresses of a header of version 2: a kind, a length in two bytes, a value, and so on.

use super::header::Fault;

pub(super) const ALPN: u8 = 0x01;
pub(super) const AUTHORITY: u8 = 0x02;
pub(super) const CRC32C: u8 = 0x03;
pub(super) const NOOP: u8 = 0x04;
pub(super) const UNIQUE_ID: u8 = 0x05;
pub(super) const SSL: u8 = 0x20;
pub(super) const SSL_VERSION: u8 = 0x21;
pub(super) const SSL_CN: u8 = 0x22;
pub(super) const SSL_CIPHER: u8 = 0x23;
pub(super) const SSL_SIG_ALG: u8 = 0x24;
pub(super) const SSL_KEY_ALG: u8 = 0x25;
pub(super) const SSL_GROUP: u8 = 0x26;
pub(super) const NETNS: u8 = 0x30;
/// Of Google Cloud, Amazon and Azure.
pub(super) const GCP: u8 = 0xe0;
pub(super) const AWS: u8 = 0xea;
pub(super) const AZURE: u8 = 0xee;

/// Its kind and its value, and what is behind it.
type Tlv<'a> = (u8, &'a [u8], &'a [u8]);

/// The first TLV, if there is one. `Err`: it is cut off.
pub(super) fn next(tlvs: &[u8]) -> Result<Option<Tlv<'_>>, Fault> {
    let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk() else {
        return if tlvs.is_empty() { Ok(None) } else { Err(Fault::TlvCut) };
    };
    let parts = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])));
    let (value, rest) = parts.ok_or(Fault::TlvCut)?;
    Ok(Some((kind, value, rest)))
}

/// The flags of an SSL TLV and whether the certificate was verified (0: it was), and its own TLVs.
pub(super) fn ssl(value: &[u8]) -> Option<((u8, u32), &[u8])> {
    let (&[flags, a, b, c, d], rest) = value.split_first_chunk()?;
    Some(((flags, u32::from_be_bytes([a, b, c, d])), rest))
}
