//! Listeners.

use std::ffi::{c_char, c_int};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_ARG, resay_error};
use super::memory::{cleared, give_text, text_of};
use crate::{Error, ListenerId};

/// The id of a listener. An id is never reused in a process, and no connection and no listener of another engine has it, so a
/// stale or foreign id is always RESAY_E_HANDLE. 0 is never valid.
pub type resay_id = u64;

/// For resay_listen_fd: after success the engine owns the descriptor; the caller must not use or close it.
pub const RESAY_FD_OWN: u32 = 1u32;
/// For resay_listen_fd: the engine duplicates the descriptor; the caller keeps it.
pub const RESAY_FD_DUP: u32 = 2u32;

/// [*] Adds a listener and binds it. Peers can connect from now on; the engine serves them while it runs. If out is not
/// NULL, *out becomes the listener's id, or 0 after a failure.
/// Returns 0; RESAY_E_SPEC: bad URL or option, RESAY_E_SYS: the socket cannot be bound, RESAY_E_PLUGIN: bad chain,
/// RESAY_E_STATE: the engine is ending or has ended, RESAY_E_ARG. After a failure nothing is bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listen(
    engine: *mut resay_engine,
    url: *const c_char,
    out: *mut resay_id,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own.
    let out = unsafe { cleared(out) };
    with_engine(engine, Waits::No, err, |engine| {
        // SAFETY: the caller's pointer, as documented.
        let url = unsafe { text_of(url, "url")? };
        out.give(engine.engine.listen(url)?.number());
        Ok(0)
    })
}

/// [*] Adds a listener on a socket that the program opened: TCP, UDP or AF_UNIX, bound, listening or not. own_or_dup is
/// RESAY_FD_OWN or RESAY_FD_DUP. options are "key=value" pairs separated by '&', as in a URL's query, or NULL; errors
/// show them as the URL fd:NUMBER?OPTIONS. The engine
/// makes the socket non-blocking and resets options that would change its answers, which affects its duplicates too, also
/// after the engine's end. The program created the file of a unix socket, so the engine does not remove that file. If out is
/// not NULL, *out becomes the listener's id, or 0 after a failure.
/// Returns 0; RESAY_E_SPEC: bad option, or one that means nothing for this kind of socket, RESAY_E_SYS: not a socket, one without an address, or a connected one,
/// RESAY_E_PLUGIN: bad chain, RESAY_E_STATE: the engine is ending or has ended, RESAY_E_ARG. After a failure the caller owns the descriptor, and the
/// socket is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listen_fd(
    engine: *mut resay_engine,
    fd: c_int,
    own_or_dup: u32,
    options: *const c_char,
    out: *mut resay_id,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own.
    let out = unsafe { cleared(out) };
    with_engine(engine, Waits::No, err, |engine| {
        let options =
                // SAFETY: the caller's pointer, as documented.
                if options.is_null() { "" } else { unsafe { text_of(options, "options")? } };
        if own_or_dup != RESAY_FD_OWN && own_or_dup != RESAY_FD_DUP {
            let message = format!("own_or_dup is {own_or_dup}: expected RESAY_FD_OWN or RESAY_FD_DUP");
            return Err(Failure::new(RESAY_E_ARG, message));
        }
        if fd < 0 {
            return Err(Failure::new(RESAY_E_ARG, format!("fd is {fd}")));
        }
        // SAFETY: not -1; where it is not open, making a copy of it fails, which is all that is done with it.
        let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
        let failed = |source| Error::System { what: format!("adopt fd:{fd}"), source };
        // A copy in any case, so that a failure leaves the caller's alone.
        let copy = theirs.try_clone_to_owned().map_err(failed)?;
        let id = engine.engine.listen_socket_called(copy, fd, options)?;
        if own_or_dup == RESAY_FD_OWN {
            // SAFETY: open, as was just seen, and given to the engine by the caller.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        out.give(id.number());
        Ok(0)
    })
}

/// [*] Writes the URL of a listener to buf, with its real port, NUL-terminated. If need is not NULL, *need becomes the
/// size needed, including the NUL.
/// Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_url(
    engine: *mut resay_engine,
    listener: resay_id,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let url = engine.engine.listener(ListenerId::from_number(listener))?.url;
        // SAFETY: the caller's buffer, as documented.
        unsafe { give_text(&url, buf, cap, need)? };
        Ok(0)
    })
}

/// [*] Returns the port of a TCP or UDP listener, 0 for unix sockets; RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_port(engine: *mut resay_engine, listener: resay_id) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let info = engine.engine.listener(ListenerId::from_number(listener))?;
        Ok(info.port().map_or(0, c_int::from))
    })
}

/// [*] Closes a listener after it has accepted the connections that wait. When this returns nobody can connect any more. Its
/// connections stay open; the end of the listener ends its resay_listener_pause. The id is stale from now on.
///
/// Datagrams that have arrived are answered, and when this returns no more are received. Answers that come after that
/// (RESAY_LATER, a delay, a transform that may block) are still sent, from the same address: it is free for another socket when
/// the last one has gone, which RESAY_EVENT_LISTENER_CLOSED tells. The name of a unix socket in the file system is free at once.
/// In the program's own loop, what has arrived is answered with the next turn.
/// Returns 0; RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn, or no descriptors, for ten seconds, and closes it with its
/// next one, RESAY_E_STATE: inside any callback, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_close(engine: *mut resay_engine, listener: resay_id) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        engine.engine.close_listener(ListenerId::from_number(listener))?;
        Ok(0)
    })
}
