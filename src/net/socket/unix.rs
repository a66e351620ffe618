//! Sockets on files and abstract names.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, SockAddr, Socket};

use super::bound::Bound;
use super::options::{asked_for, configure, on_accept, waiting_max};
use crate::error::{Error, Result};
use crate::net::address::{Listen, UnixName};
use crate::net::unix_file::SocketFile;
use crate::peer::SocketKind;
use crate::sys;

pub(super) fn bind(listen: &Listen, kind: SocketKind, name: &UnixName) -> Result<Bound> {
    let failed = |what: &'static str| Error::system(format!("{what} {}", listen.address));
    let options = &listen.options;
    let socket = Socket::new(Domain::UNIX, sys::type_of(kind).nonblocking().cloexec(), None)
        .map_err(failed("open a socket for"))?;
    sys::refuse_descriptors(&socket).map_err(failed("set SO_PASSRIGHTS of"))?;
    configure(socket.as_fd(), &asked_for(kind, options)).map_err(failed("set options of"))?;
    let listening = |socket: &Socket| match kind {
        SocketKind::UnixDatagram => Ok(()),
        _ => socket.listen(waiting_max(options)),
    };
    let mut file = None;
    match name {
        UnixName::Abstract(name) => {
            let mut path = vec![0];
            path.extend_from_slice(name);
            let address = SockAddr::unix(OsStr::from_bytes(&path)).map_err(failed("bind"))?;
            socket.bind(&address).map_err(failed("bind"))?;
            listening(&socket).map_err(failed("listen on"))?;
        }
        UnixName::Path(path) => {
            file = Some(SocketFile::bind(&socket, path, options.mode).map_err(failed("bind"))?);
            listening(&socket).map_err(failed("listen on"))?;
        }
    }
    let url = listen.address.to_string();
    Ok(Bound {
        socket: socket.into(),
        kind,
        url,
        is_loopback: false,
        destinations: false,
        more: Vec::new(),
        can_multiply: false,
        is_adopted: false,
        options: options.clone(),
        on_accept: on_accept(kind, options, false),
        handover: None,
        file,
    })
}
