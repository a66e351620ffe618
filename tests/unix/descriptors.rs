//! Descriptors that are sent along.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::common::*;
use crate::{ANY_PORT, SCHEMES};
use socket2::{Domain, SockRef, Socket, Type};

/// Descriptors that a peer sends along are never received: the bytes are answered, and the number of open
/// descriptors stays.
#[test]
fn descriptors_that_are_sent_along_are_not_taken() {
    isolated(|| {
        // Where the kernel can, it refuses them.
        forget_how_to_refuse_descriptors();
        let directory = directory();
        for transport in [Transport::UnixStream, Transport::Seqpacket, Transport::UnixDatagram] {
            let (engine, url) = serve(&transport.url(directory.path()), "");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"first"), b"first");
            let null = fs::File::open("/dev/null").unwrap();
            let before = descriptors().len();
            for round in 0..100_u32 {
                let text = format!("with a descriptor {round}");
                send_descriptor(&peer, text.as_bytes(), &null);
                let answer = if transport.is_stream() { peer.exactly(text.len()) } else { peer.message() };
                assert_eq!(answer, text.as_bytes(), "{transport:?}");
            }
            assert_eq!(descriptors().len(), before, "{transport:?}");
            drop(peer);
            finish(engine);
        }
    });
}

/// The kernel ends a read behind bytes that a descriptor came with, although more is there: what follows is
/// answered too, also when nothing else ever comes.
#[test]
fn what_follows_a_descriptor_is_answered() {
    isolated(|| {
        forget_how_to_refuse_descriptors();
        let directory = directory();
        let null = fs::File::open("/dev/null").unwrap();
        for transport in [Transport::UnixStream, Transport::Seqpacket, Transport::UnixDatagram] {
            let engine = engine_builder().listen(&transport.url(directory.path())).unwrap().build().unwrap();
            let url = engine.urls().remove(0);
            let peer = Peer::connect(&url);
            // All of it is there before the server reads for the first time.
            send_descriptor(&peer, b"one ", &null);
            send_descriptor(&peer, b"two ", &null);
            peer.send(b"three");
            engine.start().unwrap();
            if transport.is_stream() {
                assert_eq!(peer.exactly(13), b"one two three", "{transport:?}");
            } else {
                for expected in [&b"one "[..], b"two ", b"three"] {
                    assert_eq!(peer.message(), expected, "{transport:?}");
                }
            }
            drop(peer);
            finish(engine);
        }
    });
}

/// A socket that takes an hour to close, and the one that would have to read for it to be quicker.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let other = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    while (&stream).write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::from_secs(3600))).unwrap();
    (stream, other)
}

/// The socket behind such a URL, as a service manager would open it.
fn opened(url: &str) -> Socket {
    let (_, socket_type, address) = address_of(url);
    let socket = Socket::new(Domain::UNIX, socket_type.cloexec(), None).unwrap();
    socket.bind(&address).unwrap();
    if socket_type != Type::DGRAM {
        socket.listen(8).unwrap();
    }
    socket
}

/// A descriptor that is thrown away is closed by whoever throws it away, and that takes as long as the one who sent it
/// likes. No worker does: it is refused, on sockets that are bound and such that are handed over.
#[test]
fn descriptors_are_refused() {
    isolated(|| {
        if !can_refuse_descriptors() {
            return skipped("this kernel has no SO_PASSRIGHTS");
        }
        let directory = directory();
        let (engine, bystander) = serve(ANY_PORT, "");
        let bystander = Peer::connect(&bystander);
        let all = SCHEMES.into_iter().flat_map(|scheme| [(scheme, false, ""), (scheme, true, "")]);
        // Before anybody knows whose connection it is.
        let strangers =
            [("unix", true, "allow_uid=4294967294"), ("unix-seqpacket", true, "allow_uid=4294967294")];
        for (number, (scheme, is_opened, options)) in all.chain(strangers).enumerate() {
            let url = format!("{scheme}:{}", directory.path().join(number.to_string()).display());
            if is_opened {
                engine.listen_socket(opened(&url).into(), options).unwrap();
            } else {
                engine.listen(&url).unwrap();
            }
            let (passed, other) = lingering();
            let peer = Peer::connect(&url);
            let result = try_send_descriptor(&peer, b"take this", &passed);
            let refused = result.as_ref().err().and_then(io::Error::raw_os_error);
            match result {
                // The last copy is on its way.
                Ok(()) => drop(passed),
                // Nobody is to read for it any more, so that closing it is quick.
                Err(_) => drop((other, passed)),
            }
            assert_eq!(bystander.ask(b"and me?"), b"and me?", "{url} {options}");
            // Who is turned away may find nobody there.
            if options.is_empty() {
                assert_eq!(refused, Some(libc::EPERM), "{url}");
                assert_eq!(peer.ask(b"only this"), b"only this", "{url}");
            }
        }
        drop(bystander);
        finish(engine);
    });
}

/// Those that were sent before the socket was handed over: whatever had to be done with them, no worker has done it, and
/// nobody else has lost anything.
#[test]
fn descriptors_from_before_hold_nobody() {
    isolated(|| {
        if !can_refuse_descriptors() {
            return skipped("this kernel has no SO_PASSRIGHTS");
        }
        for scheme in SCHEMES {
            // Datagrams have no connections to be limited.
            let limits: &[&str] = if scheme == "unix-dgram" { &[""] } else { &["", "max_connections=1"] };
            for options in limits {
                let directory = directory();
                let url = format!("{scheme}:{}", directory.path().join("s").display());
                let socket = opened(&url);
                let first = Peer::connect(&url);
                first.send(b"from before");
                let sender = Peer::connect(&url);
                let others: Vec<_> = (0..3)
                    .map(|_| {
                        let (passed, other) = lingering();
                        send_descriptor(&sender, b"take this", &passed);
                        other
                    })
                    .collect();
                let last = Peer::connect(&url);
                if options.is_empty() {
                    last.send(b"from before");
                }
                let (engine, bystander) = serve(ANY_PORT, "");
                let bystander = Peer::connect(&bystander);
                engine.listen_socket(socket.into(), options).unwrap();
                assert_eq!(first.exactly_or_message(11), b"from before", "{scheme}");
                assert_eq!(bystander.ask(b"and me?"), b"and me?", "{scheme}");
                if options.is_empty() {
                    assert_eq!(last.exactly_or_message(11), b"from before", "{scheme}");
                }
                if scheme == "unix-dgram" {
                    (0..3).for_each(|_| assert_eq!(sender.message(), b"take this"));
                }
                assert_eq!(bystander.ask(b"and now?"), b"and now?", "{scheme}");
                drop((first, last, sender, bystander));
                finish(engine);
                // Whoever closes them can go on.
                drop(others);
            }
        }
    });
}
