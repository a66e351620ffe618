//! A header, and what can be wrong with one.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::peer::Peer;

/// The longest header: of version 2, which could be 64 KiB.
pub(crate) const HEADER_BYTES_MAX: usize = 4096;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// 1 or 2.
    pub version: u8,
    /// The proxy speaks for itself, to see whether we are here (LOCAL).
    pub is_local: bool,
    /// Who speaks to whom; `None`: the proxy does not say.
    pub addresses: Option<Addresses<'a>>,
    /// What else it says, in TLVs, which are well-formed.
    pub(crate) tlvs: &'a [u8],
    /// Bytes of the header. What is behind it is the stream, or the message.
    pub len: usize,
}

/// Who speaks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses<'a> {
    /// How they are called in [`Header::facts`]: `tcp4`, `udp6`, `unix`, `unix-dgram`.
    pub(crate) protocol: &'static str,
    pub(crate) source: Endpoint<'a>,
    pub(crate) destination: Endpoint<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint<'a> {
    Ip(SocketAddr),
    /// A `sun_path`, filled up with NUL.
    Unix(&'a [u8]),
}

impl Addresses<'_> {
    /// Whose connection or datagram it is.
    pub fn source(&self) -> Peer {
        self.source.peer()
    }
}

impl Endpoint<'_> {
    pub(super) fn peer(&self) -> Peer {
        match *self {
            Endpoint::Ip(address) => Peer::Ip(SocketAddr::new(address.ip().to_canonical(), address.port())),
            Endpoint::Unix([0, name @ ..]) => match ended_by_nul(name, true) {
                [] => Peer::Unnamed,
                name => Peer::Abstract(name.to_vec()),
            },
            Endpoint::Unix(path) => match ended_by_nul(path, false) {
                [] => Peer::Unnamed,
                path => Peer::Path(OsStr::from_bytes(path).into()),
            },
        }
    }
}

/// A path ends at the first NUL. An abstract name may have some in it: those at its end are taken for filling.
fn ended_by_nul(name: &[u8], is_abstract: bool) -> &[u8] {
    let len = if is_abstract {
        name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    } else {
        name.iter().position(|byte| *byte == 0).unwrap_or(name.len())
    };
    name.get(..len).unwrap_or_default()
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each has its text")]
pub enum Fault {
    NoHeader,
    Cut,
    NoVersion1,
    NoVersion2,
    LineTooLong,
    LineEnd,
    LineProtocol,
    LineFields,
    SourceAddress,
    DestinationAddress,
    SourcePort,
    DestinationPort,
    Version,
    Command,
    Protocol,
    TooLong,
    AddressesCut,
    TlvCut,
    TlvSslCut,
    UniqueIdTooLong,
    ChecksumSize,
    ChecksumTwice,
    Checksum,
}

impl Fault {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Fault::NoHeader => "no PROXY header",
            Fault::Cut => "PROXY header that is cut off",
            Fault::NoVersion1 => "no PROXY header of version 1",
            Fault::NoVersion2 => "no PROXY header of version 2",
            Fault::LineTooLong => "PROXY line of more than 107 bytes",
            Fault::LineEnd => "PROXY line that does not end with CR LF",
            Fault::LineProtocol => "PROXY line of another protocol than TCP4, TCP6 or UNKNOWN",
            Fault::LineFields => "PROXY line without two addresses and two ports",
            Fault::SourceAddress => "PROXY line with a bad source address",
            Fault::DestinationAddress => "PROXY line with a bad destination address",
            Fault::SourcePort => "PROXY line with a bad source port",
            Fault::DestinationPort => "PROXY line with a bad destination port",
            Fault::Version => "PROXY header of another version than 2 behind the signature of version 2",
            Fault::Command => "PROXY header with an unknown command",
            Fault::Protocol => "PROXY header of an unknown family or protocol",
            Fault::TooLong => "PROXY header of more than 4096 bytes",
            Fault::AddressesCut => "PROXY header that ends within its addresses",
            Fault::TlvCut => "PROXY header that ends within a TLV",
            Fault::TlvSslCut => "PROXY header whose SSL TLV is malformed",
            Fault::UniqueIdTooLong => "PROXY header with a unique id of more than 128 bytes",
            Fault::ChecksumSize => "PROXY header whose checksum has not four bytes",
            Fault::ChecksumTwice => "PROXY header with two checksums",
            Fault::Checksum => "PROXY header with a wrong checksum",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
