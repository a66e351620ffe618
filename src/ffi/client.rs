//! The blocking client.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::slice;

use super::engine::{Waits, refuse_waiting};
use super::error::{Failure, RESAY_E_FULL, call, resay_error};
use super::memory::{bytes_of, cleared, length_of, text_of};
use super::time::timeout_of;
use crate::{Client, Received};

/// One connected socket. It needs no engine in this process. One thread may send while another receives.
pub struct resay_client {
    client: Client,
}

/// Runs a call of a client. `client` is NULL or came from resay_client_open and is not freed before this returns.
fn with_client(
    client: *mut resay_client,
    timeout_ms: i32,
    body: impl FnOnce(&Client) -> Result<c_int, Failure>,
) -> c_int {
    call(ptr::null_mut(), || {
        // SAFETY: the caller's.
        let client = unsafe { client.as_ref() }.ok_or_else(|| Failure::null("the client"))?;
        refuse_waiting(if timeout_ms == 0 { Waits::No } else { Waits::Yes })?;
        body(&client.client)
    })
}

/// [*] Connects to a URL, at most timeout_ms milliseconds; -1: without a limit. Datagram sockets are connected too,
/// so answers of others are not received. The caller owns *out and frees it with resay_client_free.
/// 0; RESAY_E_SPEC: the URL, RESAY_E_SYS: there is no server (os_errno ECONNREFUSED, ENOENT, ETIMEDOUT...), RESAY_E_INTR,
/// RESAY_E_STATE: inside a callback, RESAY_E_ARG; and *out is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_open(
    url: *const c_char,
    timeout_ms: i32,
    out: *mut *mut resay_client,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own pointer.
    let out = unsafe { cleared(out) };
    call(err, || {
        let out = out.or_refuse()?;
        refuse_waiting(Waits::Yes)?;
        // SAFETY: the caller's pointer, as documented.
        let url = unsafe { text_of(url, "url")? };
        let mut client = Client::open(url, timeout_of(timeout_ms)?)?;
        client.set_interruptible(true);
        out.give(Box::into_raw(Box::new(resay_client { client })));
        Ok(0)
    })
}

/// [*] Sends all of data, len bytes; on a datagram or seqpacket socket as one message, also an empty one. Waits at most
/// timeout_ms milliseconds for the server to read; 0: not at all, -1: without a limit.
/// 0; RESAY_E_TIMEOUT: of a stream, a part may be on its way, RESAY_E_INTR: a signal came before anything was sent,
/// RESAY_E_SYS: the connection is broken (os_errno), RESAY_E_STATE: it would wait inside a callback, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_send(
    client: *mut resay_client,
    data: *const c_void,
    len: usize,
    timeout_ms: i32,
) -> c_int {
    with_client(client, timeout_ms, |client| {
        // SAFETY: the caller says that there are so many bytes.
        let data = unsafe { bytes_of(data, len, "data")? };
        client.send(data, timeout_of(timeout_ms)?)?;
        Ok(0)
    })
}

/// [*] Receives what there is, at most cap bytes, and stores in *got how many: of a stream what has arrived, else one
/// message, which may be empty. Waits for it at most timeout_ms milliseconds; 0: not at all, -1: without a limit.
/// 0; 1: the server has ended the connection, and *got is 0; RESAY_E_FULL: the message was longer than cap, and its end
/// is lost; RESAY_E_TIMEOUT, RESAY_E_INTR: interrupted by a signal, RESAY_E_SYS: the connection is broken (os_errno), or nobody is
/// there (ECONNREFUSED, on a datagram socket), RESAY_E_STATE: it would wait inside a callback, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_recv(
    client: *mut resay_client,
    buf: *mut c_void,
    cap: usize,
    got: *mut usize,
    timeout_ms: i32,
) -> c_int {
    with_client(client, timeout_ms, |client| {
        // SAFETY: NULL or the caller's own.
        let got = unsafe { got.as_mut() }.ok_or_else(|| Failure::null("got"))?;
        *got = 0;
        let buffer: &mut [u8] = match length_of(cap, buf, "buf")? {
            0 => &mut [],
            cap => {
                // SAFETY: the caller says that there are so many bytes, which only the kernel writes to and only the
                // caller reads: nobody sees what was in them.
                unsafe { slice::from_raw_parts_mut(buf.cast::<u8>(), cap) }
            }
        };
        match client.receive(buffer, timeout_of(timeout_ms)?)? {
            Received::Bytes(len) => {
                *got = len;
                Ok(0)
            }
            Received::Cut => {
                *got = cap;
                Err(Failure::new(RESAY_E_FULL, format!("the message was longer than {cap} bytes")))
            }
            Received::End => Ok(1),
        }
    })
}

/// [*] Half-closes the connection: sends FIN. The client can still receive answers, and then the end.
/// Returns 0; RESAY_E_SYS, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_shutdown(client: *mut resay_client) -> c_int {
    with_client(client, 0, |client| {
        client.shutdown()?;
        Ok(0)
    })
}

/// [*] The descriptor of a client's socket, for the program's own loop: when it is readable, call resay_client_recv with a
/// timeout of 0. It belongs to the client: do not close it, and take it out of the loop before resay_client_free. The
/// socket stays the same for the client's whole life, and is blocking.
/// Errors: RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_fd(client: *const resay_client) -> c_int {
    with_client(client.cast_mut(), 0, |client| Ok(client.as_fd().as_raw_fd()))
}

/// [1] Closes a client and frees it. NULL is allowed. No other call may be using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_client_free(client: *mut resay_client) {
    if client.is_null() {
        return;
    }
    call(ptr::null_mut(), || {
        // SAFETY: from resay_client_open, and freed once: the caller's duty.
        drop(unsafe { Box::from_raw(client) });
        Ok(0)
    });
}
