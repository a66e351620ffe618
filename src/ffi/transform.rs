//! Plugins, tables, callbacks, chains.

use std::ffi::{c_char, c_int, c_void};

use resay_plugin::abi::resay_transform;

use super::callback::{Owned, resay_callback, resay_release};
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, RESAY_E_PLUGIN, resay_error};
use super::listener::resay_id;
use super::text_of;
use crate::{ListenerId, Transform};

/// [*] Loads a plugin file; chains that are set from now on find its transforms by their names. Calling it again after
/// the file has changed loads what is in it now; chains that were set before keep what they have. A library is never
/// unloaded.
/// The number of transforms in it; RESAY_E_PLUGIN: the file cannot be used, or the program has registered a transform of
/// that name, RESAY_E_ARG.
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

/// [*] Adds a transform of the program's own, behind a table as plugins have it. The table, and all that it points to,
/// stays as it is until the engine is freed. Chains that are set from now on find it by its id, before bundled ones.
/// 0; RESAY_E_PLUGIN: the table breaks a rule, or there is one of that id already, RESAY_E_ARG.
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

/// [*] Adds a transform that is a function of the program's: see resay_callback. It has no options and sees one message
/// after another, nothing of connections. Chains that are set from now on find it by its id, before bundled ones.
///
/// release, if it is not NULL, is called with user exactly once: when nothing uses it any more, at the latest in
/// resay_engine_free; and when this call fails, whatever the reason, before it returns.
/// 0; RESAY_E_PLUGIN: the id is not a name ([a-z0-9][a-z0-9._-]*), or there is one of that id already, RESAY_E_ARG.
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

/// [*] Changes a chain, at any time, also while messages flow: that of one listener, or with 0 the engine's, which
/// all listeners have that were given none of their own. "" is the plain echo. Each worker takes it at its next turn; no
/// message goes through both. After a failure nothing has changed.
/// 0; RESAY_E_SPEC: it cannot be read, RESAY_E_PLUGIN: a transform is unknown or refuses its options, RESAY_E_HANDLE,
/// RESAY_E_ARG.
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
