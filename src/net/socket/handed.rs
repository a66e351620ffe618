//! Sockets that one process hands to the next.
//!
//! What a listener is to get shows in the socket itself, not in the URL that comes with it: the same place has several
//! spellings (a name, an IPv4 address written as IPv6, a path through a link), with or without TLS around it.

use std::fs;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use socket2::SockRef;

use super::adopt::{Found, adopt};
use super::bound::Bound;
use super::ip::{self, canonical};
use crate::error::{Error, Result};
use crate::net::address::{Address, Host, Listen, UnixName};
use crate::net::unix_file::SocketFile;
use crate::peer::SocketKind;

/// The sockets of a listener, for another process, or from one.
#[derive(Debug)]
pub struct Handed {
    /// Where it listens, with the real port.
    pub url: String,
    /// One, or of datagrams one for each worker that had one.
    pub sockets: Vec<OwnedFd>,
}

impl Handed {
    /// Deals out what was handed over: to each listener what is bound to its address. The rest stays in `handed`.
    /// `takes_any_port`: a listener with port 0 takes any port.
    pub(crate) fn deal(
        handed: &mut Vec<Handed>,
        listens: &[Listen],
        takes_any_port: bool,
    ) -> Vec<Option<Handed>> {
        let mut dealt: Vec<_> = listens.iter().map(|_| None).collect();
        let mut offered: Vec<_> = handed.drain(..).map(|handed| (Place::of(&handed), handed)).collect();
        // Who wants a certain address comes before those who would take it as one of several.
        let of_choice = |wanted: u8| {
            let is_wanted =
                move |(place, listen): (usize, &Listen)| (choice(&listen.address) == wanted).then_some(place);
            listens.iter().enumerate().filter_map(is_wanted)
        };
        for place in (0..=CHOICES_MAX).flat_map(of_choice) {
            let (Some(listen), Some(dealt)) = (listens.get(place), dealt.get_mut(place)) else { continue };
            // Where nothing is left, no name is looked up in vain.
            if offered.is_empty() {
                break;
            }
            let found = Place::wanted(listen).into_iter().find_map(|wanted| {
                offered.iter().position(|(place, handed)| {
                    place.as_ref().is_some_and(|place| place.is_at(&wanted))
                        && (!wanted.is_any_port() || takes_any_port)
                        && (!wanted.is_any_port() || is_tls(&handed.url) == is_tls_address(&listen.address))
                })
            });
            *dealt = found.map(|found| offered.remove(found).1);
        }
        handed.extend(offered.into_iter().map(|(_, handed)| handed));
        dealt
    }

    /// Takes them over for the listener that they were [dealt](Handed::deal) to.
    pub(crate) fn adopt(self, listen: &Listen) -> Result<Bound> {
        let options = &listen.options;
        let mut sockets = self.sockets.into_iter();
        let first = sockets.next().ok_or(Error::State("no socket was handed over for an address"))?;
        let number = first.as_raw_fd();
        let mut bound = adopt(first, number, options)?;
        for socket in sockets {
            let number = socket.as_raw_fd();
            let mut more = adopt(socket, number, options)?;
            more.complete()?;
            bound.more.push(more.socket);
        }
        match listen.address.stream() {
            Address::Tcp(asked) | Address::Udp(asked) => {
                let local = SockRef::from(&bound.socket).local_addr();
                let local =
                    local.map_err(Error::system(format!("read the address of {}", listen.address)))?;
                if let Some(local) = local.as_socket() {
                    bound.url = ip::url_of(listen, asked, local);
                }
            }
            Address::Unix { name, .. } => {
                bound.url = listen.address.to_string();
                if let UnixName::Path(path) = name {
                    // Where the file is gone, or somebody else's, it is nobody's to remove. Else it is the other process's for
                    // now.
                    bound.file = SocketFile::adopt(path).ok();
                }
            }
            _ => {}
        }
        Ok(bound)
    }
}

/// Where a socket is bound, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Ip {
        kind: SocketKind,
        /// Port 0 of one that is wanted: any.
        address: SocketAddr,
        /// All addresses, of IPv6 and of IPv4.
        is_dual: bool,
    },
    Unix {
        kind: SocketKind,
        name: UnixName,
    },
}

impl Place {
    /// Where sockets that were handed over are; `None`: they are nothing that listens anywhere.
    fn of(handed: &Handed) -> Option<Place> {
        let socket = SockRef::from(handed.sockets.first()?);
        let Found { kind, local, is_v6, .. } = Found::look(&socket).ok()?;
        if let Some(address) = local.as_socket() {
            let is_dual = is_v6 && address.ip().is_unspecified() && !socket.only_v6().ok()?;
            return Some(Place::Ip { kind, address: plain(address), is_dual });
        }
        let name = match (local.as_pathname(), local.as_abstract_namespace()) {
            (Some(path), _) => UnixName::Path(resolved(path)),
            (None, name) => UnixName::Abstract(name?.to_owned()),
        };
        Some(Place::Unix { kind, name })
    }

    /// Where a new socket of this listener would be: the first one is the best.
    fn wanted(listen: &Listen) -> Vec<Place> {
        let Some(kind) = listen.address.socket_kind() else { return Vec::new() };
        match listen.address.stream() {
            Address::Tcp(asked) | Address::Udp(asked) => {
                let is_any = asked.host == Host::Any;
                let v6only = listen.options.v6only.unwrap_or(!is_any);
                // What cannot be looked up cannot be bound either, which gives the error.
                let addresses = ip::candidates(asked).unwrap_or_default().into_iter();
                let addresses = addresses.filter(|address| !ip::is_kept_out(listen, asked, address));
                let at = |address: SocketAddr| {
                    let is_dual = address.is_ipv6() && address.ip().is_unspecified() && !v6only;
                    Place::Ip { kind, address: plain(address), is_dual }
                };
                addresses.map(at).collect()
            }
            Address::Unix { name: UnixName::Path(path), .. } => {
                vec![Place::Unix { kind, name: UnixName::Path(resolved(path)) }]
            }
            Address::Unix { name, .. } => vec![Place::Unix { kind, name: name.clone() }],
            Address::Tls(_) | Address::Fd(_) | Address::Systemd(_) => Vec::new(),
        }
    }

    /// Whether a socket here is what somebody wants who wants that.
    fn is_at(&self, wanted: &Place) -> bool {
        let mut found = self.clone();
        if let Place::Ip { address, .. } = &mut found
            && wanted.is_any_port()
        {
            address.set_port(0);
        }
        found == *wanted
    }

    fn is_any_port(&self) -> bool {
        matches!(self, Place::Ip { address, .. } if address.port() == 0)
    }
}

/// The last [`choice`].
const CHOICES_MAX: u8 = 2;

/// What else a listener with this address could have: nothing, an address of a name's, or any port.
fn choice(address: &Address) -> u8 {
    match address.stream() {
        Address::Tcp(asked) | Address::Udp(asked) => match (&asked.host, asked.port) {
            // In their order, in which the process before has opened its own.
            (_, 0) => CHOICES_MAX,
            (Host::Name(_), _) => 1,
            _ => 0,
        },
        _ => 0,
    }
}

fn is_tls(url: &str) -> bool {
    Address::parse(url).is_ok_and(|(address, _)| is_tls_address(&address))
}

fn is_tls_address(address: &Address) -> bool {
    matches!(address, Address::Tls(_))
}

/// An address as it compares: IPv4 as what it is, and a zone only where there is one for each link (RFC 4007).
fn plain(address: SocketAddr) -> SocketAddr {
    match canonical(address) {
        SocketAddr::V6(address) => {
            let scope = if address.ip().is_unicast_link_local() { address.scope_id() } else { 0 };
            SocketAddrV6::new(*address.ip(), address.port(), 0, scope).into()
        }
        address => address,
    }
}

/// The path of a socket's file without links in its directory, where that can be looked up.
fn resolved(path: &Path) -> PathBuf {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (fs::canonicalize(directory), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket::bind;
    use crate::options::Options;

    fn listen(url: &str) -> Listen {
        Listen::parse(url, &Options::default()).unwrap()
    }

    fn handed(url: &str) -> Handed {
        let bound = bind(&listen(url)).unwrap().remove(0);
        // Nobody removes the file before the socket has been looked for.
        bound.file.into_iter().for_each(SocketFile::leave);
        Handed { url: bound.url, sockets: vec![bound.socket] }
    }

    fn port_of(handed: &Handed) -> &str {
        handed.url.rsplit_once(':').unwrap().1
    }

    #[test]
    fn a_socket_is_found_by_each_spelling_of_its_address() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("link")).unwrap();
        let file = directory.path().join("s").display().to_string();
        let linked = directory.path().join("link/s").display().to_string();
        for (bound, wanted, is_it) in [
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:PORT", true),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", true),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:1", false),
            ("tcp://127.0.0.1:0", "udp://127.0.0.1:PORT", false),
            ("tcp://127.0.0.1:0", "tcp://localhost:PORT", true),
            ("tcp://localhost:0", "tcp://localhost:PORT", true),
            ("tcp://localhost:0", "tcp://localhost:0", true),
            ("udp://127.0.0.1:0", "udp://[::ffff:127.0.0.1]:PORT", true),
            ("tcp://127.0.0.1:0", "tcp://[::ffff:127.0.0.1]:0", true),
            ("tcp://127.0.0.1:0", "tcp://[::ffff:127.0.0.1]:PORT?v6only=1", false),
            ("tcp://[::1]:0", "tcp://127.0.0.1:0", false),
            ("tcp://[::1]:0", "tcp://[0:0::1]:PORT", true),
            ("udp://:0", "udp://:PORT", true),
            ("udp://:0", "udp://:0", true),
            ("tcp://:0", "tcp://[::]:PORT", false),
            ("tcp://[::]:0", "tcp://[::]:PORT", true),
            ("tcp://[::]:0", "tcp://:PORT", false),
            ("tcp://[::]:0?v6only=0", "tcp://:PORT", true),
            ("tcp://:0", "tcp://0.0.0.0:PORT", false),
            // The stream is the same, with TLS around it or without; another port needs not be.
            ("tls://127.0.0.1:0", "tls://127.0.0.1:0", true),
            ("tls://127.0.0.1:0", "tls://127.0.0.1:PORT", true),
            ("tls://127.0.0.1:0", "tcp://127.0.0.1:PORT", true),
            ("tls://127.0.0.1:0", "tcp://127.0.0.1:0", false),
            (&format!("unix:{file}1"), &format!("unix:{file}1"), true),
            (&format!("unix:{file}2"), &format!("unix:{linked}2"), true),
            (&format!("unix:{file}3"), &format!("unix-dgram:{file}3"), false),
            (&format!("unix+tls:{file}4"), &format!("unix+tls:{file}4"), true),
            (&format!("unix:@{file}"), &format!("unix:@{file}"), true),
            (&format!("unix:@{file}"), &format!("unix:@{file}1"), false),
            ("tcp://127.0.0.1:0", "fd:3", false),
        ] {
            let offered = handed(bound);
            let wanted = listen(&wanted.replace("PORT", port_of(&offered)));
            let mut all = vec![offered];
            let dealt = Handed::deal(&mut all, std::slice::from_ref(&wanted), true).remove(0);
            assert_eq!((dealt.is_some(), all.is_empty()), (is_it, is_it), "{bound} {wanted:?}");
        }
    }

    #[test]
    fn a_url_is_what_a_new_socket_would_have() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("s").display().to_string();
        for url in [
            "tcp://:0",
            "udp://:0",
            "tcp://[::]:0",
            "tls://:0",
            "tls://127.0.0.1:0",
            "tcp://localhost:0",
            "tcp://[::ffff:127.0.0.1]:0",
            "tcp://[::1%25lo]:0",
            &format!("unix+tls:{file}1"),
            &format!("unix-seqpacket:{file}2"),
            &format!("unix:@{file}"),
        ] {
            let offered = handed(url);
            let before = offered.url.clone();
            let wanted = listen(url);
            let dealt = Handed::deal(&mut vec![offered], std::slice::from_ref(&wanted), true).remove(0);
            assert_eq!(dealt.unwrap().adopt(&wanted).unwrap().url, before, "{url}");
        }
    }

    /// Whoever wants a certain port gets it, wherever he stands, and those who take any get theirs in their order.
    #[test]
    fn certain_ports_are_dealt_first() {
        let mut all: Vec<_> = (0..3).map(|_| handed("tcp://127.0.0.1:0")).collect();
        let urls: Vec<_> = all.iter().map(|handed| handed.url.clone()).collect();
        let wanted = [
            "tcp://localhost:0",
            "tcp://127.0.0.1:0",
            &format!("tcp://localhost:{}", port_of(&all[0])),
            "tcp://127.0.0.1:0",
        ];
        let dealt = Handed::deal(&mut all, &wanted.map(listen), true);
        let dealt: Vec<_> = dealt.into_iter().map(|dealt| dealt.map(|handed| handed.url)).collect();
        assert_eq!(dealt, [Some(urls[1].clone()), Some(urls[2].clone()), Some(urls[0].clone()), None]);
        assert!(all.is_empty());
    }
}
