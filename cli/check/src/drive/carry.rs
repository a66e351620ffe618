//! The calls of "resay.session-state/1".

use super::buffers::{Arena, CallBuffer, ERROR_BYTES, ErrorText, ROOM_BYTES_MAX, Writable};
use super::call::{Place, expect_error};
use super::session::{HUGE_BYTES, Session};
use crate::child::step;
use crate::host::{calling, place_struct};
use crate::promise::Promise;
use crate::verdict::{Check, Violation};
use resay_plugin::abi;
use std::ffi::{CStr, c_char, c_void};

pub(crate) type Save =
    unsafe extern "C" fn(*mut c_void, *const c_void, *mut abi::resay_io) -> abi::resay_status;
pub(crate) type Load = unsafe extern "C" fn(
    *mut c_void,
    *mut c_void,
    *const c_char,
    abi::resay_bytes,
    *mut abi::resay_text,
) -> abi::resay_status;

/// Calls save(), with a larger buffer each time it asks for one; the saved state.
pub(crate) fn save(
    session: &Session<'_, '_>,
    arena: &mut Arena,
    save: Save,
    tight: bool,
) -> Check<(abi::resay_status, Vec<u8>)> {
    let mut room = if tight { 1 } else { HUGE_BYTES };
    for _ in 0..64 {
        step(format!("save(), output_cap {room}"));
        let out = CallBuffer::new(&arena.output, Place::End, room);
        out.clear(arena.pattern);
        let io = abi::resay_io {
            struct_size: size_of::<abi::resay_io>() as u32,
            flags: 0,
            input: std::ptr::null(),
            input_len: 0,
            input_used: 0,
            output: out.start,
            output_cap: room,
            output_len: 0,
            output_need: 0,
            delay_us: 0,
            copies: 0,
            zero: 0,
        };
        let io = place_struct(&arena.structs, io, 0);
        // SAFETY: a living instance, a session that no call uses, a call's memory of ours.
        let status = calling(abi::RESAY_THREAD_WORKER, || unsafe {
            save(session.instance.own(), session.place.cast_const().cast(), io)
        });
        // SAFETY: still there.
        let (output_len, output_need) = unsafe { ((*io).output_len, (*io).output_need) };
        if output_len > room {
            let what = format!("save(): output_len {output_len} where output_cap was {room}");
            return Err(Violation::of(Promise::OutputBounds, what));
        }
        match status {
            abi::RESAY_MORE_OUT if output_need > ROOM_BYTES_MAX / 2 => break,
            abi::RESAY_MORE_OUT if output_need > room || output_len > 0 => room = output_need.max(room * 2),
            abi::RESAY_MORE_OUT => {
                let what = format!(
                    "save() returned RESAY_MORE_OUT with output_cap {room} and output_need {output_need}"
                );
                return Err(Violation::of(Promise::Progress, what));
            }
            abi::RESAY_OK => return Ok((status, out.bytes()[..output_len].to_vec())),
            status => return expect_error(status, "save()").map(|()| (status, Vec::new())),
        }
    }
    Err(Violation::of(Promise::Progress, format!("save() asks for more than {room} bytes of output")))
}

/// Calls load() for an open session.
pub(crate) fn load(
    session: &Session<'_, '_>,
    arena: &Arena,
    load: Load,
    schema: &CStr,
    state: &[u8],
) -> Check<(abi::resay_status, String)> {
    step(format!("load() of {} bytes with schema {}", state.len(), schema.to_string_lossy()));
    let buffer = CallBuffer::new(&arena.input, Place::End, state.len());
    buffer.fill(state);
    arena.input.protect(true);
    let _writable = Writable(&arena.input);
    let text = ErrorText::new(ERROR_BYTES);
    let bytes = abi::resay_bytes { ptr: buffer.start, len: state.len() };
    // SAFETY: a living instance, an open session, the rest for the call.
    let status = calling(abi::RESAY_THREAD_WORKER, || unsafe {
        load(session.instance.own(), session.place.cast(), schema.as_ptr(), bytes, text.raw)
    });
    let text = text.check("load()")?;
    if status != abi::RESAY_OK {
        expect_error(status, "load()")?;
    }
    Ok((status, text))
}
