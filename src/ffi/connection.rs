//! Connections and listeners while they are served.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::address::resay_address;
use super::engine::{Waits, refuse_waiting, resay_engine, unknown_option, with_engine};
use super::error::{Failure, RESAY_E_ARG, RESAY_E_FULL};
use super::listener::resay_id;
use super::memory::{bytes_of, give_struct, give_text, text_of};
use super::time::timeout_of;
use crate::{ConnectionInfo, ConnectionState, Engine, Error, ListenerId};

/// In resay_connection.state: both sides may send.
pub const RESAY_CONNECTION_OPEN: u32 = 1u32;
/// In resay_connection.state: the peer has sent FIN; what it sent before is still being answered.
pub const RESAY_CONNECTION_HALF_CLOSED: u32 = 2u32;
/// In resay_connection.state: it answers no more; what waits is sent, then it closes.
pub const RESAY_CONNECTION_ENDING: u32 = 3u32;

/// A connection as it was when resay_connection_get asked.
#[repr(C)]
pub struct resay_connection {
    /// Set by the caller: sizeof(resay_connection).
    pub struct_size: u32,
    /// RESAY_STREAM or RESAY_SEQPACKET.
    pub kind: u32,
    /// Its number in this process. No listener has it, and no connection of another engine.
    pub connection: u64,
    /// Its listener, which may be closed by now.
    pub listener: resay_id,
    /// RESAY_CONNECTION_.
    pub state: u32,
    /// The worker that serves it, from 0.
    pub worker: u32,
    /// Of unix sockets, the process that connected, as it was then (SO_PEERCRED); -1: not known.
    pub pid: i32,
    /// Its effective user; -1: not known.
    pub uid: u32,
    /// Its effective group; -1: not known.
    pub gid: u32,
    /// 1: the program has paused it, or its listener.
    pub is_paused: u32,
    /// Bytes that the peer has sent.
    pub bytes_in: u64,
    /// Bytes that the kernel has accepted for the peer.
    pub bytes_out: u64,
    /// Bytes of answers, and of what the program has sent, that wait for the peer to read, or for their time.
    pub waiting_bytes: u64,
    /// Milliseconds since it last received something, or was accepted.
    pub idle_ms: u64,
    /// The peer; of a connection over a proxy, the peer that the proxy has named.
    pub peer: resay_address,
    /// Our side.
    pub local: resay_address,
    /// The proxy; len 0: no proxy has named the peer.
    pub via: resay_address,
}

/// [*] Writes the numbers of the open connections of a listener, or with 0 of all, in the order in which they came, and
/// their number to *count. The functions that take a connection's number make an index of all connections when one of them
/// is called for the first time, which takes one turn of each worker and about 64 bytes a connection from then on. Called
/// before the engine runs, this function takes none, and no later call waits for the index.
/// Returns 0; RESAY_E_FULL: there are more than cap; the first cap are written, and ids may be NULL if cap is 0,
/// RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn for ten seconds, RESAY_E_STATE: inside a callback of any engine while
/// there is no index, which would have to be waited for, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connections(
    engine: *mut resay_engine,
    listener_or_0: resay_id,
    ids: *mut u64,
    cap: usize,
    count: *mut usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        // SAFETY: NULL or the caller's own.
        let count = unsafe { count.as_mut() }.ok_or_else(|| Failure::null("count"))?;
        refuse_making_index(engine)?;
        let listener = (listener_or_0 != 0).then(|| ListenerId::from_number(listener_or_0));
        let found = engine.engine.connection_numbers(listener)?;
        *count = found.len();
        let most = found.len().min(cap);
        if most > 0 {
            if ids.is_null() {
                return Err(Failure::null("ids"));
            }
            // SAFETY: the caller's, of `cap` numbers, which is at least as many.
            unsafe { ptr::copy_nonoverlapping(found.as_ptr(), ids, most) };
        }
        if found.len() > cap {
            let message = format!("there are {} connections, and room for {cap}", found.len());
            return Err(Failure::new(RESAY_E_FULL, message));
        }
        Ok(0)
    })
}

/// [*] Fills *out with what a connection is now. out->struct_size is sizeof *out. Waits for a turn of the worker that serves
/// it.
/// Returns 0; RESAY_E_HANDLE: it is closed, RESAY_E_TIMEOUT: its worker had no turn for ten seconds, RESAY_E_STATE: inside any
/// callback, RESAY_E_ARG: out is NULL, or its struct_size is not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_get(
    engine: *mut resay_engine,
    connection: u64,
    out: *mut resay_connection,
) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        let filled = describe(&engine.engine.connection(connection)?);
        // SAFETY: a struct without padding whose size comes first; the caller's, as documented.
        unsafe { give_struct(out, &filled, "out")? };
        Ok(0)
    })
}

fn describe(info: &ConnectionInfo) -> resay_connection {
    const UNKNOWN: u32 = u32::MAX;
    let credentials = info.credentials;
    resay_connection {
        struct_size: 0,
        kind: info.kind.number(),
        connection: info.id,
        listener: info.listener_id.number(),
        state: match info.state {
            ConnectionState::Open => RESAY_CONNECTION_OPEN,
            ConnectionState::HalfClosed => RESAY_CONNECTION_HALF_CLOSED,
            ConnectionState::Ending => RESAY_CONNECTION_ENDING,
        },
        worker: u32::try_from(info.worker).unwrap_or(u32::MAX),
        pid: credentials.map_or(-1, |credentials| credentials.process),
        uid: credentials.map_or(UNKNOWN, |credentials| credentials.user),
        gid: credentials.map_or(UNKNOWN, |credentials| credentials.group),
        is_paused: u32::from(info.is_paused),
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
        waiting_bytes: info.waiting_bytes as u64,
        idle_ms: u64::try_from(info.idle.as_millis()).unwrap_or(u64::MAX),
        peer: resay_address::of(Some(&info.peer)),
        local: resay_address::of(info.local.as_ref()),
        via: resay_address::of(info.via.as_ref()),
    }
}

/// [*] Sends data to a peer that has not asked: the next bytes of a stream, as they are and without a frame, or one record,
/// which may be empty. They leave after the answers to all messages received before, also after delayed ones and those that
/// are still to come (RESAY_LATER), and count as activity for idle_timeout. data is copied.
///
/// This and the next five functions do not wait: the worker that serves the connection acts in its next turn, in the order of
/// the calls; call resay_sync to be sure that it has. While a transform with RESAY_MAY_BLOCK has a message of the connection,
/// they wait for that, apart from resay_connection_reset.
/// Returns 0; RESAY_E_FULL, and nothing is sent: high_water bytes that the program sent wait for the peer to read, each send
/// counting 64 more, or a record is longer than max_message, or there is no memory for a copy; RESAY_E_HANDLE: the connection is
/// closed, or of another engine, RESAY_E_STATE: the connection is ending, since the program has called
/// resay_connection_shutdown, _close or _reset, or since our side has sent FIN; or, as RESAY_E_TIMEOUT, only from the first call
/// (see resay_connections); RESAY_E_ARG. A connection that begins to end before the next turn loses the data;
/// resay_stats.undelivered_bytes counts those that it had taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_send(
    engine: *mut resay_engine,
    connection: u64,
    data: *const c_void,
    len: usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        refuse_making_index(engine)?;
        // SAFETY: the caller says that there are so many bytes.
        engine.engine.send(connection, unsafe { bytes_of(data, len, "data")? })?;
        Ok(0)
    })
}

/// The first call that names connections waits for all workers, which may wait for the caller's in turn.
fn refuse_making_index(engine: &resay_engine) -> Result<(), Failure> {
    if engine.engine.has_connection_numbers() { Ok(()) } else { refuse_waiting(Waits::Yes) }
}

/// Calls one of the functions of a connection that do not wait, once there is an index.
fn ask(
    engine: *mut resay_engine,
    connection: u64,
    call: impl FnOnce(&Engine, u64) -> Result<(), Error>,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        refuse_making_index(engine)?;
        call(&engine.engine, connection)?;
        Ok(0)
    })
}

/// The same for a listener, which needs no index.
fn ask_listener(
    engine: *mut resay_engine,
    listener: resay_id,
    call: impl FnOnce(&Engine, ListenerId) -> Result<(), Error>,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        call(&engine.engine, ListenerId::from_number(listener))?;
        Ok(0)
    })
}

/// [*] Ends a connection in good order: answers everything that has arrived, sends FIN, and closes the connection when the
/// peer has sent FIN too, or after two seconds. Its reason is RESAY_CLOSED_BY_HOST. A paused connection is read for that.
/// Returns as resay_connection_send does, but 0 for a connection that is ending: so do the next four functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_shutdown(engine: *mut resay_engine, connection: u64) -> c_int {
    ask(engine, connection, Engine::shut_down_connection)
}

/// [*] Closes a connection: drops what has arrived and is not answered, also messages that are to be answered later
/// (RESAY_LATER), sends what waits, then FIN, like RESAY_CLOSE of a transform.
/// Returns as resay_connection_send does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_close(engine: *mut resay_engine, connection: u64) -> c_int {
    ask(engine, connection, Engine::close_connection)
}

/// [*] Ends a connection at once: TCP peers receive RST, and everything that waits is lost.
/// Returns as resay_connection_send does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_reset(engine: *mut resay_engine, connection: u64) -> c_int {
    ask(engine, connection, Engine::reset_connection)
}

/// [*] Stops reading a connection until resay_connection_resume: its peer's bytes stay in the kernel, whose buffers fill. What
/// was read is answered, and resay_connection_send works. Meanwhile idle_timeout and min_rate do not count the peer's
/// silence; write_timeout does count. FIN and RST of the peer are noticed at the latest when a send fails or reading goes on.
/// Returns as resay_connection_send does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_pause(engine: *mut resay_engine, connection: u64) -> c_int {
    ask(engine, connection, Engine::pause_connection)
}

/// [*] Reads a connection again, unless its listener is paused. The time of idle_timeout begins anew.
/// Returns as resay_connection_send does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_connection_resume(engine: *mut resay_engine, connection: u64) -> c_int {
    ask(engine, connection, Engine::resume_connection)
}

/// [*] Stops reading all connections of a listener, also those that it accepts from now on, and its datagrams, of which the
/// kernel keeps what fits its buffer. Does not wait: each worker acts in its next turn. Connections are still accepted.
/// Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_pause(engine: *mut resay_engine, listener: resay_id) -> c_int {
    ask_listener(engine, listener, Engine::pause_listener)
}

/// [*] Ends resay_listener_pause, but not resay_connection_pause.
/// Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_resume(engine: *mut resay_engine, listener: resay_id) -> c_int {
    ask_listener(engine, listener, Engine::resume_listener)
}

/// [*] Resets all connections of a listener, as resay_connection_reset does, and returns how many there were. Connections that
/// wait to be accepted are not among them. It is done when this returns; in the program's own loop, with the next turn.
/// Errors: RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn for ten seconds, RESAY_E_STATE: inside any callback,
/// RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_reset(engine: *mut resay_engine, listener: resay_id) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        let count = engine.engine.reset_listener(ListenerId::from_number(listener))?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// [*] on 0: refuses new peers and keeps the address: connects fail with ECONNREFUSED, UDP datagrams are answered with ICMP "port
/// unreachable". Connections that wait to be accepted, and datagrams that have arrived, are still served; open connections
/// stay. on 1: takes peers again. It is in effect when this returns. The file of a unix socket stays; when it takes peers
/// again a new file takes its place, so for a moment there is none. A unix datagram socket is closed until then; answers that
/// it still owes are sent, those that it owes when it takes peers again are dropped.
/// Returns 0, also if nothing changes; RESAY_E_STATE: the engine does not serve yet, the socket came from resay_listen_fd, fd:
/// or systemd: and others may have it, or it is an abstract unix datagram socket, whose name nobody could keep, or inside any
/// callback; RESAY_E_SYS: the address could not be taken again, and nothing changed, RESAY_E_TIMEOUT: a worker had no turn
/// for ten seconds, and acts with its next one, RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_accept(
    engine: *mut resay_engine,
    listener: resay_id,
    on: c_int,
) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        if !matches!(on, 0 | 1) {
            return Err(Failure::new(RESAY_E_ARG, format!("on is {on}: expected 0 or 1")));
        }
        engine.engine.set_accepting(ListenerId::from_number(listener), on == 1)?;
        Ok(0)
    })
}

/// [*] Waits until every worker has made a whole turn since this was called: it has done what calls before this one asked of
/// it, emitted its events, and answers through the chain that was set. Waits at most timeout_ms milliseconds; -1: without a
/// limit.
/// Returns 0, also once the engine has ended; RESAY_E_TIMEOUT, RESAY_E_STATE: the engine has not run yet, or it is the calling
/// thread that runs it with resay_run (which makes a turn), or inside any callback, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_sync(engine: *mut resay_engine, timeout_ms: i32) -> c_int {
    with_engine(engine, Waits::Yes, ptr::null_mut(), |engine| {
        engine.engine.sync(timeout_of(timeout_ms)?)?;
        Ok(0)
    })
}

/// [*] Fills *out with the address that a listener is bound to, with its real port.
/// Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_address(
    engine: *mut resay_engine,
    listener: resay_id,
    out: *mut resay_address,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let info = engine.engine.listener(ListenerId::from_number(listener))?;
        // SAFETY: NULL or the caller's own.
        let out = unsafe { out.as_mut() }.ok_or_else(|| Failure::null("out"))?;
        *out = resay_address::of(info.local.as_ref());
        Ok(0)
    })
}

/// [*] Writes the chain of a listener, or with 0 that of the engine, to buf, NUL-terminated, as resay_chain accepts it; "" is
/// the plain echo. If need is not NULL, *need becomes the size needed, including the NUL.
/// Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_chain(
    engine: *mut resay_engine,
    listener_or_0: resay_id,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let chain = match listener_or_0 {
            0 => engine.engine.chain(),
            id => engine.engine.listener(ListenerId::from_number(id))?.chain,
        };
        // SAFETY: the caller's buffer, as documented.
        unsafe { give_text(&chain, buf, cap, need)? };
        Ok(0)
    })
}

/// [*] Writes an option of a listener as it holds to buf, NUL-terminated; its default, if it means nothing for the listener's
/// kind of socket. Options of the socket are as the kernel reported them when it was bound: rcvbuf and sndbuf are twice what
/// was set, for example. If need is not NULL, *need becomes the size needed, including the NUL.
/// Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_SPEC: unknown key, RESAY_E_HANDLE,
/// RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_listener_option(
    engine: *mut resay_engine,
    listener: resay_id,
    key: *const c_char,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        // SAFETY: the caller's pointer, as documented.
        let key = unsafe { text_of(key, "key")? };
        let value = engine.engine.listener_option(ListenerId::from_number(listener), key)?;
        let value = value.ok_or_else(|| unknown_option(key))?;
        // SAFETY: the caller's buffer, as documented.
        unsafe { give_text(&value, buf, cap, need)? };
        Ok(0)
    })
}
