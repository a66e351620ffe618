//! Sockets that one process hands to the next.

use std::os::fd::OwnedFd;

use super::adopt::adopt;
use super::bound::Bound;
use crate::error::{Error, Result};
use crate::net::address::{Address, Listen, UnixName};
use crate::net::unix_file::SocketFile;
use crate::options::Options;

/// The sockets of a listener, for another process, or from one.
#[derive(Debug)]
pub struct Handed {
    /// Where it listens, with the real port.
    pub url: String,
    /// One, or of datagrams one for each worker that had one.
    pub sockets: Vec<OwnedFd>,
}

impl Handed {
    /// Those that are bound to the address.
    pub(crate) fn take_for(handed: &mut Vec<Handed>, listen: &Listen) -> Option<Handed> {
        let place = handed.iter().position(|handed| is_at(&handed.url, &listen.address))?;
        Some(handed.remove(place))
    }

    pub(crate) fn adopt(self, options: &Options) -> Result<Bound> {
        let mut sockets = self.sockets.into_iter();
        let first = sockets.next().ok_or(Error::State("no socket was handed over for an address"))?;
        let mut bound = adopt(first, options)?;
        for socket in sockets {
            let mut more = adopt(socket, options)?;
            more.complete()?;
            bound.more.push(more.socket);
        }
        if let Ok((Address::Unix { name: UnixName::Path(path), .. }, _)) = Address::parse(&bound.url) {
            // Where the file is gone, or somebody else's, it is nobody's to remove. Else it is the other process's for now.
            bound.file = SocketFile::adopt(&path).ok();
        }
        Ok(bound)
    }
}

/// Whether a listener at `url` is what somebody wants who wants this address.
fn is_at(url: &str, wanted: &Address) -> bool {
    let Ok((found, _)) = Address::parse(url) else { return false };
    match (found, wanted.clone()) {
        (Address::Tcp(mut found), Address::Tcp(wanted)) | (Address::Udp(mut found), Address::Udp(wanted)) => {
            if wanted.port == 0 {
                found.port = 0;
            }
            found == wanted
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_at_its_port_or_at_any() {
        for (url, wanted, is_it) in [
            ("tcp://127.0.0.1:7", "tcp://127.0.0.1:7", true),
            ("tcp://127.0.0.1:7", "tcp://127.0.0.1:0", true),
            ("tcp://127.0.0.1:7", "tcp://127.0.0.1:8", false),
            ("tcp://127.0.0.1:7", "udp://127.0.0.1:7", false),
            ("tcp://[::1]:7", "tcp://127.0.0.1:0", false),
            ("udp://:7", "udp://:0", true),
            ("unix:/run/e", "unix:/run/e", true),
            ("unix:/run/e", "unix-dgram:/run/e", false),
            ("unix:@e", "unix:@e", true),
            ("fd:3", "fd:3", true),
        ] {
            let (address, _) = Address::parse(wanted).unwrap();
            assert_eq!(is_at(url, &address), is_it, "{url} {wanted}");
        }
    }
}
