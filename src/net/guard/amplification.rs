//! How long answers to datagrams may be: the source of a datagram can be forged, and whoever forges it must not profit.

use std::net::IpAddr;

use super::prefixes::Prefixes;
use crate::options::Network;
use crate::peer::Peer;

/// The limit of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amplification {
    /// Bytes of an answer for each byte of its request; `usize::MAX` is no limit.
    times: usize,
    /// Who is limited; `None`: everybody.
    limited: Option<Prefixes>,
}

impl Amplification {
    pub(crate) const UNLIMITED: Amplification = Amplification { times: usize::MAX, limited: None };

    /// `except`: the networks in which there is no limit.
    pub(crate) fn new(times: usize, except: &[Network]) -> Amplification {
        Amplification { times, limited: Prefixes::new(None, except) }
    }

    pub(crate) fn times(&self) -> usize {
        self.times
    }

    /// Whether `peer` may have so many bytes for those of its request.
    #[inline]
    pub(crate) fn allows(&self, peer: &Peer, request_bytes: usize, answer_bytes: usize) -> bool {
        answer_bytes <= self.times.saturating_mul(request_bytes) || !self.limits(peer)
    }

    #[cold]
    fn limits(&self, peer: &Peer) -> bool {
        let address: IpAddr = match peer {
            Peer::Ip(address) => address.ip(),
            _ => return true,
        };
        self.limited.as_ref().is_none_or(|limited| limited.allows(address))
    }
}
