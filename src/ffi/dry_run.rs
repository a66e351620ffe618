//! Chains without sockets.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::fmt::Display;
use std::ptr;

use resay_plugin::abi;

use super::callback::RESAY_REPLACE;
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_FULL, RESAY_E_SPEC, RESAY_E_STATE, call, resay_error};
use super::memory::{bytes_of, cleared, text_of};
use crate::options::Frame;
use crate::{DryRun, DryRunOutput, SocketKind};

/// A chain that runs without sockets: one conversation.
pub struct resay_dry_run {
    dry_run: DryRun,
    /// An answer that did not fit.
    kept: Option<DryRunOutput>,
    /// A function of its chain runs, and would use it itself.
    is_running: Cell<bool>,
}

/// [*] Creates the transforms of a chain, and opens one conversation as on a socket of this kind: "tcp", "udp", "unix",
/// "unix-dgram" or "unix-seqpacket". frame is the framing of a stream, such as "lines", or NULL for none; other kinds have none.
/// With an engine, its registered transforms and loaded plugins are found; without, those that the command would find. The
/// caller owns *out and frees it with resay_dry_run_free, before it frees the engine.
/// Returns 0; RESAY_E_SPEC: the chain, kind or frame cannot be parsed, or a kind that has no frames is to have some,
/// RESAY_E_PLUGIN: a transform is unknown or refuses its options, or the connection; RESAY_E_ARG. *out is NULL then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_dry_run_new(
    engine_or_null: *mut resay_engine,
    chain: *const c_char,
    kind: *const c_char,
    frame: *const c_char,
    out: *mut *mut resay_dry_run,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL, or the caller's own pointer.
    let out = unsafe { cleared(out) };
    let create = |make: &dyn Fn(&str, SocketKind, bool) -> crate::Result<DryRun>| {
        let out = out.or_refuse()?;
        // SAFETY: the caller's pointers, as documented.
        let (chain, kind) = unsafe { (text_of(chain, "chain")?, text_of(kind, "kind")?) };
        let kind = kind_of(kind)?;
        let is_framed = if frame.is_null() {
            false
        } else {
            // SAFETY: as above.
            let frame = unsafe { text_of(frame, "frame")? };
            let wrong = |fault: &dyn Display| Failure::new(RESAY_E_SPEC, format!("frame {frame:?}: {fault}"));
            let is_framed = Frame::parse(frame).map_err(|fault| wrong(&fault))? != Frame::Raw;
            if is_framed && !matches!(kind, SocketKind::Tcp | SocketKind::UnixStream) {
                return Err(wrong(&format_args!("only streams have frames, {} has none", kind.scheme())));
            }
            is_framed
        };
        let dry_run = make(chain, kind, is_framed)?;
        let made = resay_dry_run { dry_run, kept: None, is_running: Cell::new(false) };
        out.give(Box::into_raw(Box::new(made)));
        Ok(0)
    };
    if engine_or_null.is_null() {
        return call(err, || create(&|chain, kind, is_framed| DryRun::new(chain, &[], kind, is_framed)));
    }
    with_engine(engine_or_null, Waits::No, err, |engine| {
        create(&|chain, kind, is_framed| engine.engine.dry_run(chain, kind, is_framed))
    })
}

fn kind_of(text: &str) -> Result<SocketKind, Failure> {
    let kinds = [
        SocketKind::Tcp,
        SocketKind::Udp,
        SocketKind::UnixStream,
        SocketKind::UnixDatagram,
        SocketKind::UnixSeqpacket,
    ];
    kinds.into_iter().find(|kind| kind.scheme() == text).ok_or_else(|| {
        let all = kinds.map(SocketKind::scheme).join(", ");
        Failure::new(RESAY_E_SPEC, format!("kind {text:?}: expected one of {all}"))
    })
}

/// [1] Runs one message, without a frame, through the chain. Delays are not waited for. The answer, without a frame, goes to
/// buf; *need becomes its length, if need is not NULL.
/// Returns RESAY_REPLACE: there is an answer; RESAY_CLOSE: an answer, perhaps an empty one, then the connection is closed;
/// RESAY_DROP: no answer; RESAY_RESET; RESAY_E_FULL: cap is less than *need. The next call then returns this answer, whatever
/// its data. RESAY_E_PLUGIN: the transform failed; RESAY_E_STATE: inside a function of this dry run; RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_dry_run_process(
    dry_run: *mut resay_dry_run,
    data: *const c_void,
    len: usize,
    buf: *mut c_void,
    cap: usize,
    need: *mut usize,
) -> c_int {
    call(ptr::null_mut(), || {
        if dry_run.is_null() {
            return Err(Failure::null("dry_run"));
        }
        // SAFETY: the caller says that there are so many bytes.
        let data = unsafe { bytes_of(data, len, "data")? };
        // SAFETY: from resay_dry_run_new, and not freed before this returns. Only the cell is used until it is known that no
        // other call is on its way.
        let is_running = unsafe { &(*dry_run).is_running };
        if is_running.replace(true) {
            return Err(Failure::new(RESAY_E_STATE, "a dry run may not be used inside its own functions"));
        }
        // SAFETY: as above; this call is the only one.
        let (runs, kept) = unsafe { (&mut (*dry_run).dry_run, &mut (*dry_run).kept) };
        let output = kept.take().map_or_else(|| runs.process(data), Ok);
        is_running.set(false);
        let output = output?;
        let (bytes, code): (&[u8], c_int) = match &output {
            DryRunOutput::Answer(bytes) => (bytes, RESAY_REPLACE),
            DryRunOutput::Last(bytes) => (bytes, abi::RESAY_CLOSE),
            DryRunOutput::Nothing => (&[], abi::RESAY_DROP),
            DryRunOutput::Reset => (&[], abi::RESAY_RESET),
        };
        // SAFETY: NULL or the caller's own.
        if let Some(need) = unsafe { need.as_mut() } {
            *need = bytes.len();
        }
        if bytes.len() > cap {
            let message = format!("the buffer is too small: {} bytes are needed", bytes.len());
            *kept = Some(output);
            return Err(Failure::new(RESAY_E_FULL, message));
        }
        if !bytes.is_empty() {
            if buf.is_null() {
                *kept = Some(output);
                return Err(Failure::null("buf"));
            }
            // SAFETY: the buffer has `cap` bytes, which are enough.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buf.cast(), bytes.len()) };
        }
        Ok(code)
    })
}

/// [1] Ends the conversation and frees the dry run. NULL is fine.
/// Returns 0; RESAY_E_STATE: inside a function of this dry run, and nothing has happened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_dry_run_free(dry_run: *mut resay_dry_run) -> c_int {
    call(ptr::null_mut(), || {
        if dry_run.is_null() {
            return Ok(0);
        }
        // SAFETY: from resay_dry_run_new; only the cell is used until it is known that no other call is on its way.
        if unsafe { (*dry_run).is_running.get() } {
            return Err(Failure::new(RESAY_E_STATE, "a dry run may not be freed inside its own functions"));
        }
        // SAFETY: as above, and freed once: the caller's duty.
        drop(unsafe { Box::from_raw(dry_run) });
        Ok(0)
    })
}
