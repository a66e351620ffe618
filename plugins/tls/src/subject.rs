//! The subject of a certificate as text, such as `CN=alice,O=Example`: rustls checks certificates and does not read whose they are.
//!
//! ```text
//! Certificate ─ tbsCertificate ─ [version] serial algorithm issuer validity subject …      (RFC 5280, 4.1)
//! subject ─ sets of (type, value), the last one first in the text                          (RFC 4514, 2)
//! ```

use std::fmt::Write;

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const VERSION: u8 = 0xa0;

/// The names of RFC 4514, and those of OpenSSL for two more that are common.
const TYPES: [(&[u8], &str); 11] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// The subject of a certificate in DER; `None`: it cannot be read, or is empty.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let mut fields = Der(Der(Der(certificate).of(SEQUENCE)?).of(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.of(VERSION)?;
    }
    fields.of(INTEGER)?;
    let (_algorithm, _issuer, _validity) = (fields.of(SEQUENCE)?, fields.of(SEQUENCE)?, fields.of(SEQUENCE)?);
    let mut sets = Der(fields.of(SEQUENCE)?);
    let mut parts = Vec::new();
    while !sets.0.is_empty() {
        let mut set = Der(sets.of(SET)?);
        let mut part = String::new();
        while !set.0.is_empty() {
            let mut pair = Der(set.of(SEQUENCE)?);
            let kind = pair.of(OBJECT_ID)?;
            let (tag, value) = pair.next()?;
            if !part.is_empty() {
                part.push('+');
            }
            name_into(&mut part, kind);
            part.push('=');
            value_into(&mut part, tag, value);
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(",")).filter(|text| !text.is_empty())
}

/// The short name of a type; of one that has none, its bytes in hexadecimal behind a mark.
fn name_into(text: &mut String, kind: &[u8]) {
    match TYPES.iter().find(|(known, _)| *known == kind) {
        Some((_, name)) => text.push_str(name),
        None => {
            text.push_str("oid.");
            hex_into(text, kind);
        }
    }
}

fn value_into(text: &mut String, tag: u8, value: &[u8]) {
    let read = match tag {
        BMP_STRING => {
            let units = value.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        // Of the others ASCII alone means the same in all of them.
        UTF8_STRING => std::str::from_utf8(value).ok().map(str::to_owned),
        _ => std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).map(str::to_owned),
    };
    match read {
        Some(read) => read.chars().for_each(|letter| {
            // What would end the value, or part it.
            if matches!(letter, ',' | '+' | '=' | '"' | '\\' | '<' | '>' | ';') {
                text.push('\\');
            }
            text.push(letter);
        }),
        None => {
            text.push('#');
            hex_into(text, value);
        }
    }
}

fn hex_into(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
    }
}

/// What is left to read of elements, each a tag, a length and a value (X.690, 8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The value of the next element, which has this tag.
    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Three bytes are 16 MiB, which no certificate of a handshake has (RFC 8446, 4.4.2).
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn certificate(names: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_written_as_directories_write_it() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let der = certificate(&[
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, utf8("Example, Inc.")),
            (DnType::CustomDnType(vec![1, 2, 3]), utf8("x")),
            (DnType::CommonName, DnValue::BmpString("älice".try_into().unwrap())),
        ]);
        assert_eq!(subject(&der).as_deref(), Some("CN=älice,oid.2a03=x,O=Example\\, Inc.,C=DE"));
        assert_eq!(subject(&certificate(&[])), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        let der = certificate(&[(DnType::CommonName, DnValue::Utf8String("a".to_owned()))]);
        for end in 0..der.len() {
            // However much is cut off, it ends.
            let _ = subject(&der[..end]);
        }
        for place in 0..der.len().min(200) {
            let mut wrong = der.clone();
            wrong[place] ^= 0xff;
            let _ = subject(&wrong);
        }
        assert_eq!(subject(&[]), None);
        assert_eq!(subject(&[SEQUENCE, 0x84, 1, 1, 1, 1, 1]), None);
    }
}
