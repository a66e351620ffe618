//! What a header says beside the address of the peer, as text.

use std::fmt::{Arguments, Write};

use super::header::Header;
use super::tlv::{self, next, ssl};
use crate::peer::Peer;

/// The keys of TLVs whose values are shown as they are.
const NAMES: [(u8, &str); 4] = [
    (tlv::ALPN, "alpn"),
    (tlv::AUTHORITY, "authority"),
    (tlv::UNIQUE_ID, "unique_id"),
    (tlv::NETNS, "netns"),
];
const SSL_NAMES: [(u8, &str); 6] = [
    (tlv::SSL_VERSION, "ssl_version"),
    (tlv::SSL_CN, "ssl_cn"),
    (tlv::SSL_CIPHER, "ssl_cipher"),
    (tlv::SSL_SIG_ALG, "ssl_sig_alg"),
    (tlv::SSL_KEY_ALG, "ssl_key_alg"),
    (tlv::SSL_GROUP, "ssl_group"),
];
/// In an SSL TLV: the client spoke TLS; it has shown a certificate on this connection; in this session.
const SSL_FLAGS: [(u8, &str); 3] = [(1, "ssl"), (2, "cert_conn"), (4, "cert_sess")];

impl Header<'_> {
    /// What it says, as texts `key=value`, each ended by NUL, and a further NUL. Of several TLVs of one kind the first counts;
    /// bytes of theirs that are not printable ASCII are escaped (`\xNN`), and so are `\`, `'` and `"`.
    pub fn facts(&self) -> String {
        let mut facts = Facts { text: String::new() };
        let command = if self.is_local { "local" } else { "proxy" };
        facts.put(format_args!("version={}\0command={command}", self.version));
        if let Some(addresses) = &self.addresses {
            facts.put(format_args!("protocol={}", addresses.protocol));
            match addresses.destination.peer() {
                Peer::Unnamed => {}
                destination => facts.put(format_args!("destination={destination}")),
            }
        }
        facts.tlvs(self.tlvs, false);
        facts.text.push('\0');
        facts.text
    }
}

struct Facts {
    text: String,
}

impl Facts {
    /// There is no NUL in a value as it is written.
    fn put(&mut self, fact: Arguments<'_>) {
        _ = self.text.write_fmt(fact); // a String takes everything
        self.text.push('\0');
    }

    fn tlvs(&mut self, tlvs: &[u8], are_of_ssl: bool) {
        let mut rest = tlvs;
        let mut seen = [false; 256];
        while let Ok(Some((kind, value, after))) = next(rest) {
            rest = after;
            if std::mem::replace(&mut seen[usize::from(kind)], true) {
                continue;
            }
            match (kind, value) {
                (tlv::NOOP, _) if !are_of_ssl => {}
                (tlv::CRC32C, _) if !are_of_ssl => self.put(format_args!("crc32c=ok")),
                (tlv::SSL, _) if !are_of_ssl => self.ssl(value),
                (tlv::AWS, [1, id @ ..]) if !are_of_ssl => {
                    self.put(format_args!("aws_vpce_id={}", id.escape_ascii()));
                }
                (tlv::AZURE, &[1, a, b, c, d]) if !are_of_ssl => {
                    self.put(format_args!("azure_link_id={}", u32::from_le_bytes([a, b, c, d])));
                }
                (tlv::GCP, &[a, b, c, d, e, f, g, h]) if !are_of_ssl => {
                    self.put(format_args!("gcp_psc_id={}", u64::from_be_bytes([a, b, c, d, e, f, g, h])));
                }
                _ => self.text(kind, value, are_of_ssl),
            }
        }
    }

    fn text(&mut self, kind: u8, value: &[u8], is_of_ssl: bool) {
        let (names, prefix) = if is_of_ssl { (&SSL_NAMES[..], "ssl") } else { (&NAMES[..], "tlv") };
        let value = value.escape_ascii();
        match names.iter().find(|(known, _)| *known == kind) {
            Some((_, name)) => self.put(format_args!("{name}={value}")),
            None => self.put(format_args!("{prefix}_{kind:02x}={value}")),
        }
    }

    fn ssl(&mut self, value: &[u8]) {
        let Some(((flags, verify), tlvs)) = ssl(value) else { return };
        self.text.push_str("ssl=");
        let mut gap = "";
        for (_, name) in SSL_FLAGS.iter().filter(|(flag, _)| flags & flag != 0) {
            self.text.push_str(gap);
            self.text.push_str(name);
            gap = ",";
        }
        self.put(format_args!("\0ssl_verify={verify}"));
        self.tlvs(tlvs, true);
    }
}
