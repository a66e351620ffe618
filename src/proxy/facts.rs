//! What a header says beside the address of the peer, as text.

use std::fmt::{Display, Write};

use super::header::Header;
use super::tlv::{self, next, ssl};
use crate::peer::Peer;

/// In an SSL TLV: the client spoke TLS; it has shown a certificate on this connection; in this session.
const SSL_FLAGS: [(u8, &str); 3] = [(1, "ssl"), (2, "cert_conn"), (4, "cert_sess")];

impl Header<'_> {
    /// What it says, as texts `key=value`, each ended by NUL, and a further NUL. Of several TLVs of one kind the first counts;
    /// bytes of theirs that are not printable ASCII are escaped (`\xNN`), and so are `\`, `'` and `"`.
    pub fn facts(&self) -> String {
        let mut facts = Facts { text: String::new() };
        facts.put("version", self.version);
        facts.put("command", if self.is_local { "local" } else { "proxy" });
        if let Some(addresses) = &self.addresses {
            facts.put("protocol", addresses.protocol);
            match addresses.destination.peer() {
                Peer::Unnamed => {}
                destination => facts.put("destination", destination),
            }
        }
        let mut rest = self.tlvs;
        let mut seen = [false; 256];
        while let Ok(Some((kind, value, after))) = next(rest) {
            rest = after;
            if !std::mem::replace(&mut seen[usize::from(kind)], true) {
                facts.tlv(kind, value);
            }
        }
        facts.text.push('\0');
        facts.text
    }
}

struct Facts {
    text: String,
}

impl Facts {
    /// There is no NUL in a value as it is written.
    fn put(&mut self, key: impl Display, value: impl Display) {
        _ = write!(self.text, "{key}={value}\0"); // a String takes everything
    }

    fn tlv(&mut self, kind: u8, value: &[u8]) {
        let text = value.escape_ascii();
        match (kind, value) {
            (tlv::NOOP, _) => {}
            (tlv::CRC32C, _) => self.put("crc32c", "ok"),
            (tlv::ALPN, _) => self.put("alpn", text),
            (tlv::AUTHORITY, _) => self.put("authority", text),
            (tlv::UNIQUE_ID, _) => self.put("unique_id", text),
            (tlv::NETNS, _) => self.put("netns", text),
            (tlv::SSL, _) => self.ssl(value),
            (tlv::AWS, [1, id @ ..]) => self.put("aws_vpce_id", id.escape_ascii()),
            (tlv::AZURE, &[1, a, b, c, d]) => {
                self.put("azure_link_id", u32::from_le_bytes([a, b, c, d]));
            }
            (tlv::GCP, &[a, b, c, d, e, f, g, h]) => {
                self.put("gcp_psc_id", u64::from_be_bytes([a, b, c, d, e, f, g, h]));
            }
            _ => self.put(format_args!("tlv_{kind:02x}"), text),
        }
    }

    fn ssl(&mut self, value: &[u8]) {
        let Some(((flags, verify), mut rest)) = ssl(value) else { return };
        let names: Vec<_> =
            SSL_FLAGS.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| name).collect();
        self.put("ssl", names.join(","));
        self.put("ssl_verify", verify);
        let mut seen = [false; 256];
        while let Ok(Some((kind, value, after))) = next(rest) {
            rest = after;
            let key = match kind {
                _ if std::mem::replace(&mut seen[usize::from(kind)], true) => continue,
                tlv::SSL_VERSION => "ssl_version",
                tlv::SSL_CN => "ssl_cn",
                tlv::SSL_CIPHER => "ssl_cipher",
                tlv::SSL_SIG_ALG => "ssl_sig_alg",
                tlv::SSL_KEY_ALG => "ssl_key_alg",
                tlv::SSL_GROUP => "ssl_group",
                _ => {
                    self.put(format_args!("ssl_{kind:02x}"), value.escape_ascii());
                    continue;
                }
            };
            self.put(key, value.escape_ascii());
        }
    }
}
