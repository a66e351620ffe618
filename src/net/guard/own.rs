//! The addresses of an engine's own UDP sockets: a datagram from one of them is an answer that came back, or a forged one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Entered when a socket is served and removed when it is closed, by any worker; looked at for each datagram.
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    /// One for each socket.
    all: RwLock<Vec<SocketAddr>>,
    /// A bit for each port that one of them has: for nearly all datagrams that is all there is to look at.
    ports: Box<[AtomicU64; PORT_WORDS]>,
}

const PORT_WORDS: usize = (1 << u16::BITS) / u64::BITS as usize;

impl Default for OwnAddresses {
    fn default() -> OwnAddresses {
        OwnAddresses { all: RwLock::default(), ports: Box::new([const { AtomicU64::new(0) }; PORT_WORDS]) }
    }
}

impl OwnAddresses {
    pub(crate) fn enter(&self, address: SocketAddr) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.push(address);
        let (word, bit) = self.place(address.port());
        word.fetch_or(bit, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, address: SocketAddr) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.iter().position(|one| *one == address) {
            all.swap_remove(place);
        }
        if !all.iter().any(|one| one.port() == address.port()) {
            let (word, bit) = self.place(address.port());
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether a datagram's source is one of them. A socket on all addresses has those of loopback; which others the
    /// machine has is not looked up.
    #[inline]
    pub(crate) fn has(&self, source: &SocketAddr) -> bool {
        self.has_port(source.port()) && self.has_exactly(source)
    }

    /// Whether one of them has this port.
    #[inline]
    pub(crate) fn has_port(&self, port: u16) -> bool {
        let (word, bit) = self.place(port);
        word.load(Ordering::Relaxed) & bit != 0
    }

    #[cold]
    fn has_exactly(&self, source: &SocketAddr) -> bool {
        let ip = source.ip().to_canonical();
        let is_it = |own: &SocketAddr| {
            let own_ip = own.ip().to_canonical();
            let is_here = own_ip == ip || (own_ip.is_unspecified() && ip.is_loopback());
            own.port() == source.port() && is_here
        };
        self.all.read().unwrap_or_else(PoisonError::into_inner).iter().any(is_it)
    }

    #[inline]
    fn place(&self, port: u16) -> (&AtomicU64, u64) {
        (&self.ports[usize::from(port) / 64], 1 << (port % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_entered_is_found_until_it_is_removed() {
        let own = OwnAddresses::default();
        own.enter(at("127.0.0.1:7"));
        own.enter(at("0.0.0.0:9"));
        own.enter(at("0.0.0.0:9"));
        own.enter(at("[::]:65535"));
        for (source, is_own) in [
            ("127.0.0.1:7", true),
            ("[::ffff:127.0.0.1]:7", true),
            ("127.0.0.2:7", false),
            ("127.0.0.1:8", false),
            ("127.1.2.3:9", true),
            ("192.0.2.1:9", false),
            ("[::1]:65535", true),
        ] {
            assert_eq!(own.has(&at(source)), is_own, "{source}");
        }
        own.remove(at("0.0.0.0:9"));
        own.remove(at("192.0.2.7:9"));
        assert!(own.has(&at("127.0.0.1:9")), "what was never entered takes nothing along");
        own.remove(at("0.0.0.0:9"));
        assert!(!own.has(&at("127.0.0.1:9")));
        assert!(own.has(&at("127.0.0.1:7")));
    }
}
