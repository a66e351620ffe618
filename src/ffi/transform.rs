//! Plugins, tables, functions, chains.

use std::ffi::{CStr, c_char, c_int};
use std::mem::offset_of;
use std::ptr;

use resay_plugin::abi::resay_transform;

use super::callback::Owned;
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_PLUGIN, resay_error};
use super::function::{Functions, HostFunction, needs_of, resay_function};
use super::listener::resay_id;
use super::memory::{take_struct, text_of};
use crate::{ListenerId, Message, Output, Transform};

/// [*] Loads a plugin file. Chains that are set from now on find its transforms by name. If the file has changed since, a
/// second call loads the new contents; existing chains keep the old ones. A library is never unloaded. Replace a file by
/// rename(2), never by writing into it: it is mapped into the process. The file and all directories above it must belong
/// to root or to the effective user, and nobody else may write to them; RESAY_PLUGIN_OWNERS=1000 names others to trust.
/// Returns the number of transforms in the file; RESAY_E_PLUGIN: the file cannot be used, or the program has registered a
/// transform with the same name, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_load(
    engine: *mut resay_engine,
    path: *const c_char,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        // SAFETY: the caller's pointer, as documented.
        let path = unsafe { text_of(path, "path")? };
        Ok(c_int::try_from(engine.engine.load(path)?).unwrap_or(c_int::MAX))
    })
}

/// [*] Registers a transform of the program, with a table as in a plugin. The table, and everything that it points to, must
/// stay unchanged until the engine is freed. Chains that are set from now on find the transform by its id, before bundled
/// transforms. A transform that was registered with this id before is replaced: chains that use it keep it.
/// Returns 0; RESAY_E_PLUGIN: the table is invalid, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_register(
    engine: *mut resay_engine,
    table: *const resay_transform,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        if table.is_null() {
            return Err(Failure::null("table"));
        }
        // SAFETY: the caller keeps the table for as long as the engine is there.
        let transform = unsafe { Transform::from_raw(table) };
        engine.engine.register(transform.map_err(|reason| Failure::new(RESAY_E_PLUGIN, reason))?);
        Ok(0)
    })
}

/// [*] Registers a function of the program as a transform: see resay_function. It has no options. Chains that are set from
/// now on find it by its id, before bundled transforms. A transform that was registered with this id before is replaced:
/// chains that use it keep it.
///
/// If release is not NULL, it is called with user exactly once: when no chain uses the function any more, at the latest in
/// resay_engine_free. It may be called on any thread, also inside this or another call. If this call fails for any reason,
/// release is called before the call returns, unless function is NULL or its struct_size is invalid.
/// Returns 0; RESAY_E_PLUGIN: the id is not a name ([a-z0-9][a-z0-9._-]*), RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_register_function(
    engine: *mut resay_engine,
    id: *const c_char,
    function: *const resay_function,
    err: *mut resay_error,
) -> c_int {
    // SAFETY: NULL or the caller's struct, of which struct_size bytes are there.
    let function = unsafe { take_struct(function, offset_of!(resay_function, begin), "function") };
    // Dropped, and so released, on every way out but the last.
    let owned = function.as_ref().ok().map(|function| Owned::new(function.user, function.release));
    with_engine(engine, Waits::No, err, move |engine| {
        let function = function?;
        let mut owned = owned.ok_or_else(|| Failure::null("function"))?;
        owned.belongs_to(engine.serial);
        // SAFETY: the caller's pointer, as documented.
        let id = unsafe { text_of(id, "id")? };
        let (functions, needs) = (Functions::of(&function)?, needs_of(function.needs)?);
        let has_sessions = functions.has_sessions();
        let host = HostFunction::new(owned, functions);
        let transform = if has_sessions {
            Transform::from_function(id, host)
        } else {
            Transform::from_fn(id, move |message: &Message<'_>, out: &mut Output<'_>| {
                host.answer(ptr::null_mut(), message, out)
            })
        };
        let transform = transform.map_err(|reason| Failure::new(RESAY_E_PLUGIN, reason))?;
        engine.engine.register(transform.needing(needs));
        Ok(0)
    })
}

/// [*] Removes a transform that was registered with resay_register or resay_register_function: chains that are set from now on
/// do not find it. Chains that use it keep it.
/// Returns 0; RESAY_E_HANDLE: no registered transform has this id, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_unregister(engine: *mut resay_engine, id: *const c_char) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        // SAFETY: the caller's pointer, as documented.
        engine.engine.unregister(unsafe { text_of(id, "id")? })?;
        Ok(0)
    })
}

/// [*] Returns the id of the transform whose code is running on this thread, or NULL. The string stays valid. This function is
/// async-signal-safe: a handler of SIGSEGV can name the plugin that crashed.
#[unsafe(no_mangle)]
pub extern "C" fn resay_running_transform() -> *const c_char {
    crate::running_transform().map_or(ptr::null(), CStr::as_ptr)
}

/// [*] Replaces a chain, at any time, also while messages flow. listener_or_0 is a listener, or 0 for the engine's chain,
/// which every listener without a chain of its own uses. "" is the plain echo. Each worker takes the new chain at its next
/// turn; no message passes through both. After a failure nothing has changed.
/// Returns 0; RESAY_E_SPEC: the chain cannot be parsed, RESAY_E_PLUGIN: a transform is unknown or refuses its options,
/// RESAY_E_STATE: the engine has ended, RESAY_E_HANDLE, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_chain(
    engine: *mut resay_engine,
    listener_or_0: resay_id,
    spec: *const c_char,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        // SAFETY: the caller's pointer, as documented.
        let spec = unsafe { text_of(spec, "spec")? };
        match listener_or_0 {
            0 => engine.engine.set_chain(spec)?,
            id => engine.engine.set_chain_of(ListenerId::from_number(id), spec)?,
        }
        Ok(0)
    })
}
