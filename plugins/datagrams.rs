//! For transforms of datagrams alone, `duplicate` and `reorder`: who is refused, and answers that are echoes.

use resay_plugin::{Call, Error, Io, Peer, PeerKind, Status};

/// There is nothing to remember, but sessions are opened: so streams can be refused.
#[derive(Debug, Default)]
pub(crate) struct Session {
    _opened: bool,
}

/// Opens the session of a datagram; a connection is refused for `why`.
pub(crate) fn open(call: Call<'_, Session>, peer: &Peer<'_>, why: &'static str) -> Result<(), Error> {
    call.session._opened = true;
    match peer.kind() {
        PeerKind::Datagram => Ok(()),
        _ => Err(Error::unsupported(why)),
    }
}

/// Answers a datagram with itself. An error: the call ends with that.
pub(crate) fn echo(io: &mut Io<'_>) -> Result<(), Status> {
    if !io.is_datagram() {
        return Err(Status::Unsupported); // its session was refused
    }
    if io.lacks_room(io.input().len()) {
        return Err(Status::MoreOut);
    }
    let input = io.take();
    io.write(input);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use resay_plugin::abi::RESAY_E_UNSUPPORTED;
    use resay_plugin::harness::{Answer, Harness};
    use resay_plugin::{PeerKind, Table};

    /// Sends so many datagrams through a transform that echoes them; `read` says what is of interest of each answer.
    pub(crate) fn echoes<T>(harness: &Harness, count: usize, read: impl Fn(&Answer) -> T) -> Vec<T> {
        let echo = |number: usize| {
            let data = number.to_be_bytes();
            let answer = harness.session_with(PeerKind::Datagram).unwrap().datagram(&data);
            assert_eq!((answer.status, &answer.output[..]), (0, &data[..]));
            read(&answer)
        };
        (0..count).map(echo).collect()
    }

    /// Connections are refused with these words.
    #[track_caller]
    pub(crate) fn assert_only_datagrams(table: &'static Table, why: &str) {
        for kind in [PeerKind::Stream, PeerKind::Seqpacket] {
            let error = Harness::new(table, &[]).unwrap().session_with(kind).unwrap_err();
            assert_eq!((error.status(), error.text()), (RESAY_E_UNSUPPORTED, why));
        }
    }
}
