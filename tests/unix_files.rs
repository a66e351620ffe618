//! The files of unix sockets, and what others do to them meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use resay::Error;
use resay::net::unix_file::SocketFile;
use socket2::{Domain, Socket, Type};

const SCHEMES: [&str; 3] = ["unix", "unix-dgram", "unix-seqpacket"];

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn names_in(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// Leaves the file of a server that is gone.
fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

fn refusal(url: &str) -> std::io::Error {
    match engine_builder().listen(url).unwrap().build().map(drop).unwrap_err() {
        Error::System { source, .. } => source,
        error => panic!("{error}"),
    }
}

/// Whatever has the socket's name with something behind it, a lock file of other programs as well as a FIFO that an
/// open would wait at, is as it was: whether the place is free or a stale file is taken over.
#[test]
fn what_stands_beside_is_left_alone() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let at = |name: &str| directory.path().join(name);
            fs::write(at("Cargo.lock"), "precious").unwrap();
            let held = fs::File::open(at("Cargo.lock")).unwrap();
            held.lock().unwrap();
            let fifo = std::ffi::CString::new(at("pipe.lock").as_os_str().as_bytes()).unwrap();
            // SAFETY: the path is NUL-terminated.
            assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
            symlink(at("nowhere"), at("link.lock")).unwrap();
            let before = names_in(directory.path());
            for name in ["Cargo", "pipe", "link"] {
                for is_stale in [false, true] {
                    if is_stale {
                        leave_stale(&at(name));
                    }
                    let (engine, url) = serve(&format!("{scheme}:{}", at(name).display()), "");
                    assert_answers(&url);
                    finish(engine);
                }
            }
            assert_eq!(names_in(directory.path()), before, "{scheme}");
            assert_eq!(fs::read_to_string(at("Cargo.lock")).unwrap(), "precious");
            assert!(fs::symlink_metadata(at("pipe.lock")).unwrap().file_type().is_fifo());
            assert!(fs::symlink_metadata(at("link.lock")).unwrap().is_symlink());
        }
    });
}

/// Somebody holds the lock that a stale file is removed under, and does not let go: that is an error in time, which names
/// them. Where nothing is to be removed, nobody waits for it.
#[test]
fn a_held_lock_is_an_error_in_time() {
    isolated(|| {
        let directory = directory();
        let path = directory.path().join("s");
        let url = format!("unix:{}", path.display());
        let held = fs::File::open(directory.path()).unwrap();
        held.lock().unwrap();
        let (engine, _) = serve(&url, "");
        assert_answers(&url);
        finish(engine);
        leave_stale(&path);
        let inode = fs::symlink_metadata(&path).unwrap().ino();
        let since = Instant::now();
        let error = refusal(&url);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&format!("process {} ", std::process::id())), "{text}");
        assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
        drop(held);
        finish(serve(&url, "").0);
        assert_eq!(names_in(directory.path()), [""; 0]);
    });
}

/// Of servers that find a stale file at once, one gets the place; it is not taken away from it again.
#[test]
fn of_many_at_once_one_gets_the_place() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let path = directory.path().join("s");
            let url = format!("{scheme}:{}", path.display());
            for round in 0..8 {
                leave_stale(&path);
                let barrier = Barrier::new(6);
                let results: Vec<_> = thread::scope(|scope| {
                    let start = || {
                        let builder = engine_builder().listen(&url).unwrap();
                        barrier.wait();
                        builder.build()
                    };
                    let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
                assert_eq!(winners.len(), 1, "{scheme} {round}: {losers:?}");
                for loser in losers {
                    let error = loser.map(drop).unwrap_err().to_string();
                    assert!(error.contains("another server is listening there"), "{scheme} {round}: {error}");
                }
                let engine = winners.into_iter().next().unwrap().unwrap();
                engine.start().unwrap();
                assert_answers(&url);
                assert_eq!(names_in(directory.path()), ["s"]);
                finish(engine);
                assert_eq!(names_in(directory.path()), [""; 0]);
            }
        }
    });
}

/// A server comes to the place of a stale file while another waits for the lock to remove that: it stays.
#[test]
fn what_comes_while_the_lock_is_waited_for_stays() {
    isolated(|| {
        for scheme in SCHEMES {
            let directory = directory();
            let path = directory.path().join("s");
            leave_stale(&path);
            let held = fs::File::open(directory.path()).unwrap();
            held.lock().unwrap();
            thread::scope(|scope| {
                let url = format!("{scheme}:{}", path.display());
                let late = scope.spawn(move || refusal(&url));
                eventually("it has opened the directory twice, the second time to lock it", || {
                    let is_it = |line: &&String| line.ends_with(directory.path().to_str().unwrap());
                    let count = descriptors().iter().filter(is_it).count();
                    if count == 3 { Ok(()) } else { Err(format!("{count}")) }
                });
                fs::remove_file(&path).unwrap();
                let early = UnixListener::bind(&path).unwrap();
                drop(held);
                let error = late.join().unwrap();
                assert_eq!(error.kind(), ErrorKind::AddrInUse, "{scheme}: {error}");
                assert!(path.exists(), "{scheme}");
                drop(early);
            });
            assert_eq!(names_in(directory.path()), ["s"], "{scheme}");
        }
    });
}

/// A server that has bound its socket and does not listen yet is there, whoever wrote it.
#[test]
fn a_socket_that_does_not_listen_yet_is_not_stale() {
    isolated(|| {
        for scheme in SCHEMES {
            for other in SCHEMES {
                let directory = directory();
                let path = directory.path().join("s");
                let (_, socket_type, address) = address_of(&format!("{other}:{}", path.display()));
                let bound = Socket::new(Domain::UNIX, socket_type.cloexec(), None).unwrap();
                bound.bind(&address).unwrap();
                let inode = fs::symlink_metadata(&path).unwrap().ino();
                let text = refusal(&format!("{scheme}:{}", path.display())).to_string();
                assert!(text.contains("another server"), "{scheme} over {other}: {text}");
                assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode, "{scheme} over {other}");
            }
        }
    });
}

/// Somebody puts a symbolic link into the place of the file as soon as there is one: what it points to keeps its mode.
#[test]
fn the_mode_is_never_that_of_another_file() {
    isolated(|| {
        let directory = directory();
        chmod(directory.path(), 0o777);
        let (path, victim) = (directory.path().join("s"), directory.path().join("victim"));
        fs::write(&victim, "secret").unwrap();
        chmod(&victim, 0o600);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let link = directory.path().join("link");
                while !is_over.load(Ordering::Relaxed) {
                    let _ = symlink(&victim, &link);
                    if path.exists() && !path.is_symlink() {
                        let _ = fs::rename(&link, &path);
                    }
                }
            });
            let is_kept = (0..2000).all(|_| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None).unwrap();
                let _ = SocketFile::bind(&socket, &path, Some(0o666));
                let _ = fs::remove_file(&path);
                mode_of(&victim) == 0o600
            });
            is_over.store(true, Ordering::Relaxed);
            assert!(is_kept, "{:o}", mode_of(&victim));
        });
    });
}

/// Where no thread can have a umask of its own: the file gets its mode where nobody else can put another file into its
/// place; elsewhere that is an error, and the file is gone again.
#[test]
fn the_mode_where_the_umask_cannot_be_left() {
    isolated(|| {
        refuse_call(libc::SYS_unshare, None, libc::EPERM);
        // SAFETY: cannot fail; this process runs one test.
        unsafe { libc::umask(0o022) };
        let directory = directory();
        let path = directory.path().join("s");
        for (directory_mode, mode, expected) in [
            (0o700, 0o666, Ok(0o666)),
            (0o755, 0o660, Ok(0o660)),
            (0o1777, 0o666, Ok(0o666)),
            (0o777, 0o666, Err(())),
            (0o770, 0o660, Err(())),
            // The umask leaves it as it is.
            (0o777, 0o600, Ok(0o600)),
        ] {
            chmod(directory.path(), directory_mode);
            let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None).unwrap();
            let result = SocketFile::bind(&socket, &path, Some(mode));
            let found = result.as_ref().map(|_| mode_of(&path));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{directory_mode:o}"),
                (Err(error), Err(())) => {
                    assert!(error.to_string().contains("others may replace files"), "{error}");
                    assert!(!path.exists(), "{directory_mode:o}");
                }
                (found, _) => panic!("{directory_mode:o} {mode:o}: {found:?}"),
            }
            drop(result);
            assert!(!path.exists(), "{directory_mode:o}");
        }
    });
}

/// The file goes from where it was made, also when the directory has another name by then.
#[test]
fn a_directory_that_is_renamed() {
    isolated(|| {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("before")).unwrap();
        let (engine, _) = serve(&format!("unix:{}", at("before/s").display()), "");
        fs::rename(at("before"), at("after")).unwrap();
        fs::create_dir(at("before")).unwrap();
        fs::write(at("before/s"), "another's").unwrap();
        finish(engine);
        assert!(!at("after/s").exists());
        assert_eq!(fs::read_to_string(at("before/s")).unwrap(), "another's");
    });
}

/// A directory that may be written to and not be read cannot be locked; a stale file in it is replaced all the same.
#[test]
fn a_directory_that_cannot_be_read() {
    isolated(|| {
        refuse_call(libc::SYS_flock, None, libc::ENOLCK);
        let directory = directory();
        let path = directory.path().join("s");
        leave_stale(&path);
        let (engine, url) = serve(&format!("unix:{}", path.display()), "");
        assert_answers(&url);
        finish(engine);
        assert_eq!(names_in(directory.path()), [""; 0]);
    });
}

/// A path that no socket can have is told from one that is taken.
#[test]
fn paths_that_no_socket_can_have() {
    isolated(|| {
        let directory = directory();
        let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None).unwrap();
        let long = directory.path().join("x".repeat(108));
        for path in [Path::new(""), Path::new("/"), Path::new(".."), Path::new("a\0b"), &long] {
            let error = SocketFile::bind(&socket, path, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidFilename, "{path:?}: {error}");
        }
        let error = SocketFile::bind(&socket, &directory.path().join("none/s"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        // It is still unbound.
        let file = SocketFile::bind(&socket, &directory.path().join("s"), None).unwrap();
        assert!(socket.as_raw_fd() >= 0);
        drop(file);
        assert_eq!(names_in(directory.path()), [""; 0]);
    });
}

/// Where descriptors run out in the middle, nothing stays that was not there before; and what is there goes without any.
#[test]
fn files_where_descriptors_run_out() {
    isolated(|| {
        for (scheme, mode) in SCHEMES.into_iter().flat_map(|scheme| [(scheme, ""), (scheme, "?mode=600")]) {
            let directory = directory();
            let engine = engine_builder().listen("tcp://127.0.0.1:0").unwrap().start().unwrap();
            let url = format!("{scheme}:{}{mode}", directory.path().join("s").display());
            let limit = set_descriptor_limit(256);
            let taken = |left: usize| {
                let mut files: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
                files.truncate(files.len() - left);
                files
            };
            let mut made = None;
            let mut refused = 0;
            for left in 0..16 {
                let files = taken(left);
                let result = engine.listen(&url);
                drop(files);
                match result {
                    Ok(id) => {
                        made = Some(id);
                        break;
                    }
                    Err(error) => assert!(error.to_string().contains("open files"), "{url}: {error}"),
                }
                refused += 1;
                assert_eq!(names_in(directory.path()), [""; 0], "{url} with {left} left");
            }
            assert!(refused > 0, "{url}");
            let made = made.unwrap_or_else(|| panic!("{url}: it takes more than 16 descriptors"));
            // It refuses; and where it cannot accept again, it goes on refusing.
            engine.set_accepting(made, false).unwrap();
            for left in 0..16 {
                let files = taken(left);
                let result = engine.set_accepting(made, true);
                drop(files);
                assert_eq!(names_in(directory.path()), ["s"], "{url} with {left} left: {result:?}");
                if result.is_ok() {
                    break;
                }
            }
            let files = taken(0);
            engine.close_listener(made).unwrap();
            assert_eq!(names_in(directory.path()), [""; 0], "{url}");
            drop(files);
            set_descriptor_limit(limit);
            finish(engine);
        }
    });
}
