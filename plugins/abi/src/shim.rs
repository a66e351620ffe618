//! The C functions of a table, made for each transform. They turn the host's pointers into references, and
//! a panic into a status; everything else is the transform's.
//!
//! Each is called by a host that keeps the promises of `abi.rs`: `instance` is what `create` here stored, for
//! the same T, and `session` what `session_open` here opened, used by one call at a time.

use crate::abi;
use crate::host::{Host, Peer};
use crate::instance::Instance;
use crate::io::Io;
use crate::panics;
use crate::state::Carry;
use crate::transform::{Call, Lifecycle, Map, Process, Transform};
use core::ffi::{CStr, c_char, c_void};
use core::mem::{needs_drop, size_of};
use core::ptr::NonNull;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Whether the host must keep a session: else session_open and session_close are NULL.
pub(crate) const fn has_session<T: Transform>() -> bool {
    size_of::<T::Session>() != 0 || needs_drop::<T::Session>()
}

pub(crate) unsafe extern "C" fn create<T: Transform>(
    table: *const abi::resay_transform,
    host: *const abi::resay_host,
    options: *const abi::resay_kv,
    n_options: usize,
    instance: *mut *mut c_void,
    err: *mut abi::resay_text,
) -> abi::resay_status {
    // SAFETY: the host passes the table's own pointer, which is NULL or one of ours.
    let declared = unsafe { table.as_ref() }.map(|table| (table.options, table.n_options));
    // SAFETY: create()'s own arguments, for the call.
    unsafe { Instance::create(host, (declared, options, n_options), T::create, instance, err) }
}

pub(crate) unsafe extern "C" fn destroy<T: Transform>(instance: *mut c_void) {
    // SAFETY: what create() stored; nothing uses it any more.
    unsafe { Instance::<T>::destroy(instance) }
}

pub(crate) unsafe extern "C" fn session_open<T: Transform>(
    instance: *mut c_void,
    session: *mut c_void,
    peer: *const abi::resay_peer,
    err: *mut abi::resay_text,
) -> abi::resay_status {
    let opened = catch_unwind(|| {
        // SAFETY: what create() stored; shared, and T is Sync.
        let instance = unsafe { &*instance.cast::<Instance<T>>() };
        // Made here and moved there, so that the host's memory holds a session or nothing.
        let mut opening = T::Session::default();
        let call = Call { session: &mut opening, host: Host::new(&instance.host) };
        // SAFETY: session_open()'s own argument, for the call.
        instance.value.open(call, &unsafe { Peer::new(peer) })?;
        // SAFETY: session_size bytes of that alignment, ours until session_close().
        unsafe { place::<T>(session).write(opening) };
        Ok(())
    });
    // SAFETY: err is session_open()'s own.
    unsafe { panics::report(opened, err) }
}

pub(crate) unsafe extern "C" fn session_close<T: Transform>(_: *mut c_void, session: *mut c_void) {
    // SAFETY: session_open() wrote it; nothing uses it any more.
    if let Err(panic) = catch_unwind(|| unsafe { place::<T>(session).drop_in_place() }) {
        panics::bury(panic);
    }
}

pub(crate) unsafe extern "C" fn map<T: Map>(
    instance: *mut c_void,
    session: *mut c_void,
    data: *mut u8,
    len: usize,
) -> abi::resay_status {
    caught(|| {
        // SAFETY: what create() stored; shared, and T is Sync.
        let instance = unsafe { &*instance.cast::<Instance<T>>() };
        // SAFETY: what session_open() wrote; one call at a time.
        let session = unsafe { place::<T>(session).as_mut() };
        // SAFETY: len bytes, ours for the call; NULL only where len is 0.
        let data = unsafe { core::slice::from_raw_parts_mut(or_dangling(data).as_ptr(), len) };
        instance.value.map(Call { session, host: Host::new(&instance.host) }, data).code()
    })
}

pub(crate) unsafe extern "C" fn process<T: Process>(
    instance: *mut c_void,
    session: *mut c_void,
    io: *mut abi::resay_io,
) -> abi::resay_status {
    caught(|| {
        // SAFETY: what create() stored; shared, and T is Sync.
        let instance = unsafe { &*instance.cast::<Instance<T>>() };
        // SAFETY: what session_open() wrote; one call at a time.
        let session = unsafe { place::<T>(session).as_mut() };
        // SAFETY: the host's call, ours until we return. RESAY_CAP_ALIAS is never promised, so out is apart.
        let mut io = unsafe { Io::new(&mut *io) };
        instance.value.process(Call { session, host: Host::new(&instance.host) }, &mut io).code()
    })
}

pub(crate) unsafe extern "C" fn save<T: Carry>(
    instance: *mut c_void,
    session: *const c_void,
    io: *mut abi::resay_io,
) -> abi::resay_status {
    caught(|| {
        // SAFETY: what create() stored; shared, and T is Sync.
        let instance = unsafe { &*instance.cast::<Instance<T>>() };
        // SAFETY: what session_open() wrote; no call of the session runs meanwhile.
        let session = unsafe { place::<T>(session.cast_mut()).as_ref() };
        // SAFETY: the host's call, ours until we return; in is empty.
        let mut io = unsafe { Io::new(&mut *io) };
        instance.value.save(session, &mut io).code()
    })
}

pub(crate) unsafe extern "C" fn load<T: Carry>(
    instance: *mut c_void,
    session: *mut c_void,
    schema: *const c_char,
    state: abi::resay_bytes,
    err: *mut abi::resay_text,
) -> abi::resay_status {
    let loaded = catch_unwind(|| {
        // SAFETY: what create() stored; shared, and T is Sync.
        let instance = unsafe { &*instance.cast::<Instance<T>>() };
        // SAFETY: what session_open() wrote; one call at a time.
        let session = unsafe { place::<T>(session).as_mut() };
        // SAFETY: NUL-ended, borrowed for the call.
        let schema = unsafe { CStr::from_ptr(schema) };
        // SAFETY: len bytes, borrowed for the call; NULL only where len is 0.
        let state =
            unsafe { core::slice::from_raw_parts(or_dangling(state.ptr.cast_mut()).as_ptr(), state.len) };
        instance.value.load(session, schema, state)
    });
    // SAFETY: err is load()'s own.
    unsafe { panics::report(loaded, err) }
}

/// The two functions above, as the host finds them.
pub(crate) const fn session_state<T: Carry>() -> abi::resay_session_state {
    abi::resay_session_state {
        struct_size: size_of::<abi::resay_session_state>() as u32,
        schema: T::SCHEMA.as_ptr(),
        save: Some(save::<T>),
        load: Some(load::<T>),
    }
}

pub(crate) unsafe extern "C" fn init<L: Lifecycle>(
    path: *const c_char,
    err: *mut abi::resay_text,
) -> abi::resay_status {
    panics::take_over();
    let begun = panics::noted(|| {
        catch_unwind(|| {
            // SAFETY: NUL-ended, borrowed for the call.
            let path = if path.is_null() { c"" } else { unsafe { CStr::from_ptr(path) } };
            L::init(Path::new(OsStr::from_bytes(path.to_bytes())))
        })
    });
    // SAFETY: err is init()'s own.
    unsafe { panics::report(begun, err) }
}

pub(crate) unsafe extern "C" fn shutdown<L: Lifecycle>() {
    if let Err(panic) = panics::noted(|| catch_unwind(L::shutdown)) {
        panics::bury(panic);
    }
}

/// Where a session is. One that holds nothing is nowhere: the host may pass anything.
#[inline(always)]
fn place<T: Transform>(session: *mut c_void) -> NonNull<T::Session> {
    if size_of::<T::Session>() == 0 { NonNull::dangling() } else { or_dangling(session.cast()) }
}

#[inline(always)]
fn or_dangling<T>(pointer: *mut T) -> NonNull<T> {
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

#[inline(always)]
fn caught(call: impl FnOnce() -> abi::resay_status) -> abi::resay_status {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(status) => status,
        Err(panic) => panics::bury(panic),
    }
}
