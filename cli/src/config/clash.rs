//! Addresses of one file that cannot be bound beside each other, whatever they are for. No name is resolved for that.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf, absolute};

use resay::net::address::{Address, Endpoint, Host, Listen, UnixKind, UnixName};

use super::place::Source;
use crate::metrics::place::Place;

/// What is bound, and by whom.
#[derive(Debug)]
pub(super) struct Taken {
    spot: Spot,
    /// Its place in the file.
    at: usize,
    /// As it is written.
    address: String,
    owner: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    Ip {
        is_udp: bool,
        port: u16,
        host: Hosts,
    },
    File(PathBuf),
    /// Each kind of socket has abstract names of its own.
    Abstract(UnixKind, Vec<u8>),
    Fd(i32),
    Systemd(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    AllV4,
    AllV6,
    One(Host),
}

impl Taken {
    /// `None`: nobody else can want it, such as a port that the system chooses.
    pub(super) fn by_listener(listen: &Listen, name: &str, at: usize) -> Option<Taken> {
        let address = listen.address.to_string();
        let spot = match listen.address.stream() {
            Address::Tcp(endpoint) => of_endpoint(false, endpoint, listen.options.v6only)?,
            Address::Udp(endpoint) => of_endpoint(true, endpoint, listen.options.v6only)?,
            Address::Unix { name: UnixName::Path(path), .. } => of_path(path),
            Address::Unix { kind, name: UnixName::Abstract(name) } => Spot::Abstract(*kind, name.clone()),
            Address::Fd(number) => Spot::Fd(*number),
            Address::Systemd(name) => Spot::Systemd(name.clone()),
            _ => return None,
        };
        Some(Taken { spot, at, address, owner: format!("listener {name:?}") })
    }

    pub(super) fn by_metrics(place: &Place, at: usize) -> Option<Taken> {
        let spot = match place {
            Place::Tcp(endpoint) => of_endpoint(false, endpoint, None)?,
            Place::Unix(path, _) => of_path(path),
        };
        Some(Taken { spot, at, address: place.to_string(), owner: "metrics".to_owned() })
    }

    /// By a control socket: `key` is its key.
    pub(super) fn by_control(key: &str, path: &Path, at: usize) -> Taken {
        Taken { spot: of_path(path), at, address: path.display().to_string(), owner: key.to_owned() }
    }
}

/// Notes the later one of each two in the file that cannot be together.
pub(super) fn find(source: &Source<'_>, mut all: Vec<Taken>) {
    all.sort_by_key(|taken| taken.at);
    let mut earlier: Vec<&Taken> = Vec::new();
    for taken in &all {
        if let Some(other) = earlier.iter().find(|other| other.spot.clashes(&taken.spot)) {
            let spelled = if other.address == taken.address {
                String::new()
            } else {
                format!(", as {}", other.address)
            };
            let message = format!(
                "{} is taken already: line {} has it for {}{spelled}",
                taken.address,
                source.number(other.at),
                other.owner
            );
            source.fault(taken.at, message);
        }
        earlier.push(taken);
    }
}

impl Spot {
    fn clashes(&self, other: &Spot) -> bool {
        match (self, other) {
            (
                Spot::Ip { is_udp, port, host },
                Spot::Ip { is_udp: is_udp_too, port: other_port, host: other_host },
            ) => {
                (is_udp, port) == (is_udp_too, other_port)
                    && (host.cover(other_host) || other_host.cover(host))
            }
            _ => self == other,
        }
    }
}

impl Hosts {
    /// Whether they are all of the others. A name may be anything, and is only itself.
    fn cover(&self, other: &Hosts) -> bool {
        match (self, other) {
            (Hosts::All, other) => !matches!(other, Hosts::One(Host::Name(_))),
            (Hosts::AllV4, Hosts::One(Host::V4(_))) | (Hosts::AllV6, Hosts::One(Host::V6(..))) => true,
            _ => self == other,
        }
    }
}

fn of_endpoint(is_udp: bool, endpoint: &Endpoint, v6only: Option<bool>) -> Option<Spot> {
    // Each gets another one.
    if endpoint.port == 0 {
        return None;
    }
    let of_v4 = |address: Ipv4Addr| {
        if address.is_unspecified() { Hosts::AllV4 } else { Hosts::One(Host::V4(address)) }
    };
    let host = match &endpoint.host {
        Host::Any if v6only == Some(true) => Hosts::AllV6,
        Host::Any => Hosts::All,
        Host::V4(address) => of_v4(*address),
        // Without the option it leaves IPv4 to others.
        Host::V6(address, _) if *address == Ipv6Addr::UNSPECIFIED => {
            if v6only == Some(false) {
                Hosts::All
            } else {
                Hosts::AllV6
            }
        }
        Host::V6(address, zone) => match address.to_ipv4_mapped() {
            Some(address) => of_v4(address),
            None => Hosts::One(Host::V6(*address, zone.clone())),
        },
        Host::Name(name) => Hosts::One(Host::Name(name.to_ascii_lowercase())),
    };
    Some(Spot::Ip { is_udp, port: endpoint.port, host })
}

/// `/a//./b` is `/a/b`; what `..` leads to only the system knows.
fn of_path(path: &Path) -> Spot {
    Spot::File(absolute(path).unwrap_or_else(|_| path.to_owned()))
}
