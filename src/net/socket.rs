//! Sockets that listen: bind, options, and what is read back of them. Nothing here accepts or receives.

mod adopt;
mod bound;
mod handed;
mod ip;
mod options;
mod passed;
mod unix;

pub(crate) use crate::sys::OnAccept;
pub(crate) use adopt::adopt;
use adopt::{adopt_number, adopt_passed};
pub(crate) use bound::Bound;
pub use handed::Handed;
pub(crate) use ip::{resolve, siblings};
pub(crate) use options::{effective, on_accept_revised, waiting_max};
use passed::passed_by_systemd;
pub use passed::read_passed_sockets;

use std::io;
use std::time::Instant;

use super::address::{Address, Listen};
use crate::error::{Error, Result};
use crate::limits::{BIND_AGAIN, BIND_PATIENCE};
use crate::peer::SocketKind;

/// Binds what one URL asks for: one socket, or all that the service manager passed.
///
/// An address that is in use is tried again for [`BIND_PATIENCE`]: when a process is killed, what io_uring holds for it
/// lives on until the kernel has taken that apart, a little after the process is gone.
pub(crate) fn bind(listen: &Listen) -> Result<Vec<Bound>> {
    match listen.address.stream() {
        Address::Tcp(endpoint) => patiently(|| ip::bind(listen, endpoint, SocketKind::Tcp)),
        Address::Udp(endpoint) => patiently(|| ip::bind(listen, endpoint, SocketKind::Udp)),
        Address::Unix { kind, name } => patiently(|| unix::bind(listen, kind.socket_kind(), name)),
        // The stream of an address has none around it.
        Address::Tls(_) => Err(Error::State("the address of a stream is one of tcp or unix")),
        Address::Fd(fd) => adopt_number(*fd, listen).map(|bound| vec![bound]),
        Address::Systemd(name) => {
            passed_by_systemd(name.as_deref())?.into_iter().map(|fd| adopt_passed(fd, listen)).collect()
        }
    }
}

fn patiently(mut bind: impl FnMut() -> Result<Bound>) -> Result<Vec<Bound>> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match bind() {
            Err(Error::System { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < until =>
            {
                std::thread::sleep(BIND_AGAIN);
            }
            result => return result.map(|bound| vec![bound]),
        }
    }
}
