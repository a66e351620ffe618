//! Plugins, tables, callbacks, chains.

use std::ffi::{c_char, c_int, c_void};

use resay_plugin::abi::resay_transform;

use super::callback::{Owned, resay_callback, resay_release};
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_PLUGIN, resay_error};
use super::listener::resay_id;
use super::memory::text_of;
use crate::{ListenerId, Transform};

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
/// transforms.
/// Returns 0; RESAY_E_PLUGIN: the table is invalid, or the id is already registered, RESAY_E_ARG.
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
        engine.engine.register(transform.map_err(|reason| Failure::new(RESAY_E_PLUGIN, reason))?)?;
        Ok(0)
    })
}

/// [*] Registers a function of the program as a transform: see resay_callback. It has no options; it receives messages one
/// by one, and no information about connections. Chains that are set from now on find it by its id, before bundled
/// transforms.
///
/// If release is not NULL, it is called with user exactly once: when nothing uses user any more, at the latest in
/// resay_engine_free. If this call fails for any reason, release is called before the call returns.
/// Returns 0; RESAY_E_PLUGIN: the id is not a name ([a-z0-9][a-z0-9._-]*), or is already registered, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_register_callback(
    engine: *mut resay_engine,
    id: *const c_char,
    callback: resay_callback,
    user: *mut c_void,
    release: resay_release,
    err: *mut resay_error,
) -> c_int {
    // Dropped, and so released, on every way out but the last.
    let mut owned = Owned::new(user, release);
    with_engine(engine, Waits::No, err, move |engine| {
        owned.belongs_to(engine.serial);
        // SAFETY: the caller's pointer, as documented.
        let id = unsafe { text_of(id, "id")? };
        let callback = callback.ok_or_else(|| Failure::null("callback"))?;
        let transform = Transform::from_fn(id, owned.into_function(callback));
        engine.engine.register(transform.map_err(|reason| Failure::new(RESAY_E_PLUGIN, reason))?)?;
        Ok(0)
    })
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
