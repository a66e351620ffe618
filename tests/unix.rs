//! AF_UNIX: files, modes, names, descriptors that are sent along, records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use common::*;
use resay::{CloseReason, DropReason, Error};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

const SCHEMES: [&str; 3] = ["unix", "unix-dgram", "unix-seqpacket"];
const ANY_PORT: &str = "tcp://127.0.0.1:0";

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn assert_refused(url: &str, why: &str) {
    let error = engine_builder().listen(url).unwrap().build().map(drop).unwrap_err();
    let Error::System { what, source } = &error else { panic!("{error}") };
    assert!(what.contains(url.split('?').next().unwrap()), "{error}");
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse, "{error}");
    assert!(error.to_string().contains(why), "{error}: {why:?} is missing");
}

/// The file has the mode that was asked for, whatever the umask; without one, what the umask leaves. The umask
/// is left alone.
#[test]
fn the_mode_of_the_file() {
    isolated(|| {
        for umask in [0o022, 0o077, 0o000, 0o777] {
            // SAFETY: umask cannot fail; this process runs one test.
            unsafe { libc::umask(umask) };
            for scheme in SCHEMES {
                let directory = directory();
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
                let file = directory.path().join("s");
                for (mode, expected) in
                    [("0600", 0o600), ("0666", 0o666), ("0660", 0o660), ("auto", 0o777 & !umask)]
                {
                    let engine = engine_builder()
                        .listen(&format!("{scheme}:{}?mode={mode}", file.display()))
                        .unwrap()
                        .start()
                        .unwrap();
                    assert_eq!(mode_of(&file), expected, "{scheme} umask {umask:o} mode={mode}");
                    finish(engine);
                }
            }
            // SAFETY: as above.
            let after = unsafe { libc::umask(umask) };
            assert_eq!(after, umask, "the engine changed the umask");
        }
    });
}

/// A file that a dead server left behind is taken over.
#[test]
fn stale_files_are_taken_over() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let file = directory.path().join("s");
            let (_, socket_type, address) = address_of(&format!("{scheme}:{}", file.display()));
            let dead = Socket::new(Domain::UNIX, socket_type.cloexec(), None).unwrap();
            dead.bind(&address).unwrap();
            drop(dead);
            assert!(fs::symlink_metadata(&file).unwrap().file_type().is_socket());
            let (engine, url) = serve(&format!("{scheme}:{}", file.display()), "");
            assert_answers(&url);
            assert_eq!(names_in(directory.path()), ["s"], "{scheme}: and nothing else is left there");
            finish(engine);
            assert_eq!(names_in(directory.path()), [""; 0], "{scheme}: the file goes with the listener");
        }
    });
}

/// A living server, of this kind or another, a symbolic link, a file or a directory in the place is never
/// removed, and the error says what stands there.
#[test]
fn what_else_stands_there_is_never_removed() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let at = |name: &str| directory.path().join(name);
            let url = |name: &str| format!("{scheme}:{}", at(name).display());

            fs::write(at("file"), "precious").unwrap();
            assert_refused(&url("file"), "not a socket");
            assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");

            fs::create_dir(at("folder")).unwrap();
            assert_refused(&url("folder"), "not a socket");
            assert!(at("folder").is_dir());

            drop(UnixListener::bind(at("target")).unwrap());
            symlink(at("target"), at("link")).unwrap();
            assert_refused(&url("link"), "not a socket");
            assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
            assert!(at("target").exists(), "nor what the link points to");
            symlink(at("nowhere"), at("dangling")).unwrap();
            assert_refused(&url("dangling"), "not a socket");
            assert!(fs::symlink_metadata(at("dangling")).unwrap().is_symlink());
            assert!(!at("nowhere").exists(), "and nothing is made through it");

            for other in SCHEMES {
                let name = format!("live-{other}");
                let (_, socket_type, address) = address_of(&format!("{other}:{}", at(&name).display()));
                let live = Socket::new(Domain::UNIX, socket_type.cloexec(), None).unwrap();
                live.bind(&address).unwrap();
                if other != "unix-dgram" {
                    live.listen(1).unwrap();
                }
                let inode = fs::symlink_metadata(at(&name)).unwrap().ino();
                assert_refused(&url(&name), "another server");
                assert_eq!(fs::symlink_metadata(at(&name)).unwrap().ino(), inode, "{scheme} over {other}");
            }
            // A server whose queue is full is as alive as any.
            let busy = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None).unwrap();
            busy.bind(&file_address(&at("busy"))).unwrap();
            busy.listen(0).unwrap();
            let _waiting = UnixStream::connect(at("busy")).unwrap();
            assert_refused(&url("busy"), "another server");
            assert!(at("busy").exists());

            assert!(names_in(directory.path()).iter().all(|name| !name.ends_with(".lock")), "{scheme}");
        }
    });
}

/// The file is removed with its listener, but not one that somebody else has put into its place.
#[test]
fn only_our_own_file_is_removed() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let file = directory.path().join("s");
            let url = format!("{scheme}:{}", file.display());
            // Stopped, drained, dropped without a word, never started: the file is gone.
            finish(serve(&url, "").0);
            assert!(!file.exists(), "{scheme}: stopped");
            let (engine, _) = serve(&url, "");
            engine.drain(PATIENCE).unwrap();
            assert!(!file.exists(), "{scheme}: drained");
            drop(serve(&url, ""));
            assert!(!file.exists(), "{scheme}: dropped");
            drop(engine_builder().listen(&url).unwrap().build().unwrap());
            assert!(!file.exists(), "{scheme}: never started");
            // Replaced by a file, by another socket, or gone already.
            let (engine, _) = serve(&url, "");
            fs::remove_file(&file).unwrap();
            fs::write(&file, "mine").unwrap();
            finish(engine);
            assert_eq!(fs::read_to_string(&file).unwrap(), "mine", "{scheme}");
            fs::remove_file(&file).unwrap();
            let (engine, _) = serve(&url, "");
            fs::remove_file(&file).unwrap();
            let (second, _) = serve(&url, "");
            finish(engine);
            assert!(file.exists(), "{scheme}: that of the second engine");
            assert_answers(&url);
            fs::remove_file(&file).unwrap();
            finish(second);
        }
    });
}

/// A listener with a relative path removes its file even when the host has gone to another directory.
#[test]
fn a_relative_path_means_the_directory_of_then() {
    isolated(|| {
        let (first, second) = (directory(), directory());
        std::env::set_current_dir(first.path()).unwrap();
        let (engine, url) = serve("unix:relative.sock", "");
        assert_eq!(url, "unix:relative.sock");
        assert_answers(&url);
        std::env::set_current_dir(second.path()).unwrap();
        fs::write("relative.sock", "another's").unwrap();
        finish(engine);
        assert!(second.path().join("relative.sock").exists());
        assert!(!first.path().join("relative.sock").exists());
    });
}

/// 107 bytes of path are the most; one more, none, or a NUL is refused with the place or the reason.
#[test]
fn the_length_of_a_path() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let path_of = |count: usize| {
                let base = format!("{}/", text(directory.path()));
                base.clone() + &"x".repeat(count - base.len())
            };
            let (engine, url) = serve(&format!("{scheme}:{}", path_of(107)), "");
            assert_answers(&url);
            finish(engine);
            for wrong in [path_of(108), path_of(300), String::new(), format!("{}%00y", path_of(40))] {
                let result = engine_builder().listen(&format!("{scheme}:{wrong}"));
                let error = result.and_then(|builder| builder.build().map(drop)).unwrap_err();
                assert!(matches!(error, Error::Spec(_)), "{scheme}:{wrong}: {error}");
            }
            // An abstract name may have 107 bytes too; it is not NUL-terminated.
            let name = |count: usize| {
                let start = abstract_name();
                format!("{scheme}:@{start}{}", "x".repeat(count - start.len()))
            };
            let (engine, url) = serve(&name(107), "");
            assert_answers(&url);
            finish(engine);
            assert!(engine_builder().listen(&name(108)).is_err(), "{scheme}");
            assert_eq!(names_in(directory.path()), [""; 0], "{scheme}");
        }
    });
}

/// An abstract name is taken by one engine at a time, and free again afterwards.
#[test]
fn abstract_names() {
    isolated(|| {
        for scheme in SCHEMES {
            let url = format!("{scheme}:@{}", abstract_name());
            for _ in 0..2 {
                let (engine, _) = serve(&url, "uppercase");
                assert_eq!(Peer::connect(&url).ask(b"no file"), b"NO FILE");
                assert_refused(&url, "");
                finish(engine);
            }
        }
    });
}

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
            for options in ["", "max_connections=1"] {
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

/// A datagram of a sender without a name cannot be answered: it is dropped and counted.
#[test]
fn senders_without_a_name() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), "");
        let path = url.trim_start_matches("unix-dgram:");
        let nameless = UnixDatagram::unbound().unwrap();
        for _ in 0..3 {
            nameless.send_to(b"who am I", path).unwrap();
        }
        assert_answers(&url);
        let stats =
            eventually_stats(&engine, "they are counted", |stats| stats.dropped_by(DropReason::Unnamed) == 3);
        assert_eq!(stats.messages_in, 4, "{stats:?}");
        finish(engine);
    });
}

/// A sender's path may fill all of `sun_path` and have no NUL, one byte more than what is bound through most libraries.
#[test]
fn senders_with_the_longest_path() {
    isolated(|| {
        let directory = directory();
        for chain in ["", "delay:time=1ms"] {
            let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), chain);
            let client = UnixDatagram::unbound().unwrap();
            let mut path = text(directory.path()).as_bytes().to_vec();
            path.push(b'/');
            path.resize(108, b'x');
            // SAFETY: a sockaddr_un is plain data for which all zero is valid.
            let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
            name.sun_family = libc::AF_UNIX as libc::sa_family_t;
            name.sun_path.iter_mut().zip(&path).for_each(|(place, byte)| *place = *byte as libc::c_char);
            // SAFETY: the pointer and the length are those of one sockaddr_un.
            let bound = unsafe {
                libc::bind(
                    client.as_raw_fd(),
                    (&raw const name).cast(),
                    size_of::<libc::sockaddr_un>() as libc::socklen_t,
                )
            };
            assert_eq!(bound, 0, "{}", io::Error::last_os_error());
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"answer me", url.trim_start_matches("unix-dgram:")).unwrap();
            let mut answer = [0; 16];
            assert_eq!(client.recv(&mut answer).unwrap(), 9, "{chain:?}");
            drop(client);
            fs::remove_file(std::ffi::OsStr::from_bytes(&path)).unwrap();
            finish(engine);
        }
    });
}

/// A sender with a relative name would be answered at a file of that name in the server's own directory, which is
/// somebody else: it never is.
#[test]
fn senders_with_a_relative_name() {
    isolated(|| {
        let (ours, theirs) = (directory(), directory());
        std::env::set_current_dir(ours.path()).unwrap();
        let bystander = UnixDatagram::bind("client.sock").unwrap();
        bystander.set_nonblocking(true).unwrap();
        let (engine, url) = serve(&Transport::UnixDatagram.url(ours.path()), "");
        let path = url.trim_start_matches("unix-dgram:");
        std::env::set_current_dir(theirs.path()).unwrap();
        let client = UnixDatagram::bind("client.sock").unwrap();
        std::env::set_current_dir(ours.path()).unwrap();
        client.send_to(b"answer me", path).unwrap();
        eventually_stats(&engine, "it is counted", |stats| stats.dropped_by(DropReason::Unnamed) == 1);
        assert_answers(&url);
        let nothing = bystander.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "another socket got the answer");
        // With an absolute name the same client is answered.
        let client = UnixDatagram::bind(theirs.path().join("absolute.sock")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"answer me", path).unwrap();
        let mut answer = [0; 16];
        assert_eq!(client.recv(&mut answer).unwrap(), 9);
        finish(engine);
    });
}

/// A peer that never reads its answers: they are dropped when its queue is full, and nobody waits for it.
#[test]
fn a_full_queue_blocks_nobody() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), "");
        let (_, _, address) = address_of(&url);
        let greedy = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None).unwrap();
        greedy.bind(&SockAddr::unix("").unwrap()).unwrap();
        let greedy = Peer::of(greedy).unwrap();
        let other = Peer::connect(&url);
        for round in 0..2000_u32 {
            greedy.socket.send_to(&[0; 100], &address).unwrap();
            if round % 20 == 0 {
                let text = format!("and me? {round}");
                assert_eq!(other.ask(text.as_bytes()), text.as_bytes());
            }
        }
        let stats = eventually_stats(&engine, "all are read", |stats| {
            stats.messages_in == 2100 && stats.messages_out + stats.dropped == 2100
        });
        assert!(stats.dropped_by(DropReason::PeerFull) > 0, "{stats:?}");
        assert_eq!(stats.dropped, stats.dropped_by(DropReason::PeerFull), "{stats:?}");
        // What was not dropped is there, whole.
        let answered = stats.messages_out - 100;
        (0..answered).for_each(|_| assert_eq!(greedy.message(), [0; 100]));
        greedy.socket.send_to(b"now I read", &address).unwrap();
        assert_eq!(greedy.message(), b"now I read");
        finish(engine);
    });
}

/// A peer that is connected to the server's socket and never reads uses up that socket's own send buffer: Linux does
/// not count its queue. Answers are dropped and counted meanwhile; other listeners of the same worker are not
/// concerned, and when that peer is gone, everybody is answered again.
#[test]
fn a_full_send_buffer_blocks_no_other_listener() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), "");
        engine.listen(Transport::UnixStream.url(directory.path()).as_str()).unwrap();
        let bystander = Peer::connect(&engine.urls()[1]);
        let greedy = Peer::connect(&url);
        eventually("the send buffer is full", || {
            greedy.send(&[0; 1000]);
            assert_eq!(bystander.ask(b"and me?"), b"and me?");
            let stats = engine.stats();
            if stats.dropped_by(DropReason::PeerFull) > 20 { Ok(()) } else { Err(format!("{stats:?}")) }
        });
        drop(greedy);
        assert_answers(&url);
        drop(bystander);
        finish(engine);
    });
}

/// Peers that are gone before their answer: it is counted, the others go on.
#[test]
fn datagram_peers_that_are_gone() {
    isolated(|| {
        let directory = directory();
        let engine =
            engine_builder().listen(&Transport::UnixDatagram.url(directory.path())).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        // A queue of ten is what Linux gives by default (net.unix.max_dgram_qlen).
        (0..5).for_each(|_| Peer::connect(&url).send(b"and away"));
        engine.start().unwrap();
        assert_answers(&url);
        let stats =
            eventually_stats(&engine, "counted", |stats| stats.dropped_by(DropReason::SendFailed) == 5);
        assert_eq!(stats.messages_in, 6, "{stats:?}");
        finish(engine);
    });
}

/// Each record comes back as one record, empty ones too, and the end is told from an empty one.
#[test]
fn records_keep_their_boundaries() {
    isolated(|| {
        let directory = directory();
        for chain in ["", "uppercase", "uppercase:unicode=1", "identity | uppercase:unicode=1"] {
            let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
            let peer = Peer::connect(&url);
            let records: [&[u8]; 8] = [b"A", b"", b"BC", b"", b"", &[b'X'; 60_000], b"D\nE\n", b""];
            for _ in 0..3 {
                records.iter().for_each(|record| peer.send(record));
                for record in records {
                    assert_same(chain, record, &peer.message());
                }
            }
            peer.send(b"");
            peer.half_close();
            assert_eq!(peer.message(), b"", "{chain:?}: the last record");
            eventually_stats(&engine, "the end was understood", |stats| {
                stats.closed_by(CloseReason::PeerClosed) == 1
            });
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.messages_out), (25, 25), "{chain:?}: {stats:?}");
        }
    });
}

/// A record longer than `max_message` ends the connection, after the answers to what came before; a part of it is
/// never answered.
#[test]
fn records_longer_than_allowed() {
    isolated(|| {
        let directory = directory();
        let url = format!("{}?max_message=1k", Transport::Seqpacket.url(directory.path()));
        let (engine, url) = serve(&url, "");
        let peer = Peer::connect(&url);
        assert_same("the longest", &noise(1024, 1), &peer.ask(&noise(1024, 1)));
        peer.send(b"last words");
        peer.send(&noise(1025, 2));
        assert_eq!(peer.message(), b"last words");
        assert_eq!(peer.message(), b"");
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::MessageTooLong), 1, "{stats:?}");
        assert_eq!(stats.dropped_by(DropReason::TooLong), 1, "{stats:?}");
    });
}

/// Sends records until the engine takes no more, then reads all answers: as many, each as it was.
fn records_behind_a_full_buffer(chain: &str, record: impl Fn(u32) -> Vec<u8>, at_most: u32) {
    let directory = directory();
    let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
    let peer = Peer::connect(&url);
    peer.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < at_most && peer.try_send(&record(sent)).is_ok() {
        sent += 1;
    }
    assert!(sent > 20, "{sent} records were taken");
    for number in 0..sent {
        let answer = match peer.try_recv(4096) {
            Ok(answer) => answer,
            Err(error) => panic!("{chain:?}: answer {number} of {sent} did not come: {error}"),
        };
        assert_eq!(answer, record(number), "{chain:?}: answer {number} of {sent}");
    }
    drop(peer);
    finish(engine);
}

/// Answers to records that wait for a reader, empty ones between full ones: none is lost.
#[test]
fn waiting_records_are_kept() {
    isolated(|| {
        for chain in ["", "uppercase:unicode=1"] {
            let record = |number: u32| {
                if number.is_multiple_of(3) { Vec::new() } else { vec![b'R'; 1 + number as usize % 50] }
            };
            records_behind_a_full_buffer(chain, record, 100_000);
        }
    });
}

/// Empty records weigh nothing, and still the reader's queue can be full of them: none is lost.
#[test]
fn empty_records_behind_a_full_buffer_are_kept() {
    isolated(|| records_behind_a_full_buffer("", |_| Vec::new(), 20_000));
}

/// The same, where answers have memory of their own.
#[test]
fn empty_records_behind_a_full_buffer_are_kept_by_a_process_chain() {
    isolated(|| records_behind_a_full_buffer("uppercase:unicode=1", |_| Vec::new(), 20_000));
}

/// A peer sends empty records for ever and reads none. Each answer that waits costs the engine something, so it
/// stops reading such a peer at some point.
fn endless_empty_records(chain: &str) {
    let directory = directory();
    let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
    let peer = Peer::connect(&url);
    peer.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while peer.try_send(b"").is_ok() {
        sent += 1;
        assert!(sent < 300_000, "{chain:?}: {sent} records without an answer read, and no end");
    }
    drop(peer);
    finish(engine);
}

#[test]
fn empty_records_without_end_are_bounded() {
    isolated(|| endless_empty_records(""));
}

#[test]
fn empty_records_without_end_are_bounded_in_a_process_chain() {
    isolated(|| endless_empty_records("uppercase:unicode=1"));
}

/// A peer that reads nothing is gone: the kernel has taken of its answers what lies in its queue, and no more.
#[test]
fn what_a_peer_leaves_with_the_engine_is_not_delivered() {
    isolated(|| {
        if layer::is_on() {
            return skipped("with a layer, what lies in the queue is not what was answered");
        }
        const SENT: u64 = 600_000;
        let directory = directory();
        let url = format!("{}?sndbuf=16k&high_water=1m", Transport::UnixStream.url(directory.path()));
        let (engine, url) = serve(&url, "");
        let (mut taken, mut asked) = (0, 0);
        for round in 1..=5 {
            let peer = Peer::connect(&url);
            peer.send(&noise(SENT as usize, round));
            let read = round * SENT + asked;
            eventually_stats(&engine, "all is read", |stats| stats.bytes_in == read);
            // A turn later, the first answers are with the kernel.
            assert_answers(&url);
            asked += 12;
            let mut queued: libc::c_int = 0;
            // SAFETY: FIONREAD writes one int.
            assert_eq!(unsafe { libc::ioctl(peer.socket.as_raw_fd(), libc::FIONREAD, &mut queued) }, 0);
            taken += queued as u64;
            drop(peer);
            eventually_stats(&engine, "it is closed", |stats| stats.open == 0);
        }
        let stats = finish(engine);
        assert_eq!(stats.bytes_out, taken + asked, "{stats:?}");
        assert_eq!(stats.undelivered_bytes, 5 * SENT - taken, "{stats:?}");
    });
}
