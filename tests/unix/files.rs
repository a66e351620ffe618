//! The files of sockets, their paths, and abstract names.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::SCHEMES;
use crate::common::*;
use resay::Error;
use socket2::{Domain, Socket, Type};

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
