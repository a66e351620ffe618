//! Instances, and how their sessions begin.

use super::lent::ErrorText;
use super::{Breach, Desk, ERROR_BYTES, Kept, Session, expect_error};
use crate::child::step;
use crate::host::{Host, POISON, Shape, extra, place_struct};
use crate::promise::Promise;
use crate::table::{Pairs, Table};
use crate::words::status_text;
use resay_plugin::abi;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why there is no instance.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: abi::resay_status,
    pub(crate) text: String,
}

/// A created instance, destroyed with this value.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    pub(crate) table: &'a Table,
    pub(super) own: *mut c_void,
    host: Host,
    /// For RESAY_SERIAL.
    serial: Mutex<()>,
    pub(super) shape: Shape,
}

// SAFETY: the instance is the plugin's, which declares from where it may be called; `Threads` keeps to that.
unsafe impl Sync for Instance<'_> {}
// SAFETY: as above; it may move between threads with every declaration.
unsafe impl Send for Instance<'_> {}

impl<'a> Instance<'a> {
    /// Calls create() with room for so many bytes of an error's text; `None`: with err NULL.
    pub(crate) fn create(
        table: &'a Table,
        pairs: &Pairs,
        shape: Shape,
        room: Option<usize>,
    ) -> Kept<Result<Instance<'a>, Refusal>> {
        step(format!("create() of {} in a host of shape {shape:?}, room for errors {room:?}", table.id));
        let host = Host::new(shape);
        let mut own = std::ptr::null_mut();
        if let Some(create) = table.fields.create {
            let raw = pairs.raw();
            let text = room.map(ErrorText::new);
            let err = text.as_ref().map_or(std::ptr::null_mut(), |text| text.raw);
            // SAFETY: everything lives during the call, the host until destroy().
            let status = unsafe { create(table.raw, host.raw(), raw.as_ptr(), raw.len(), &mut own, err) };
            let text = text.map(|text| text.check("create()")).transpose()?.unwrap_or_default();
            if status != abi::RESAY_OK {
                expect_error(status, "create()")?;
                return Ok(Err(Refusal { status, text }));
            }
        }
        Ok(Ok(Instance { table, own, host, serial: Mutex::new(()), shape }))
    }

    pub(crate) fn own(&self) -> *mut c_void {
        self.own
    }

    /// Opens a session of that kind.
    pub(crate) fn session(&self, desk: &mut Desk, kind: u32) -> Kept<Session<'_, 'a>> {
        self.session_with(desk, kind, true)?.map_err(|Refusal { status, text }| {
            let what = format!("session_open() answered {}: {text}", status_text(status));
            Breach::of(Promise::Creates, what)
        })
    }

    /// Opens a session whose peer has addresses, or none.
    pub(crate) fn session_with(
        &self,
        desk: &mut Desk,
        kind: u32,
        has_addresses: bool,
    ) -> Kept<Result<Session<'_, 'a>, Refusal>> {
        let mut session = Session::unopened(self, kind);
        if let Some(open) = self.table.fields.session_open {
            step(format!("session_open() of {}", self.table.id));
            let address = |text: &'static CStr| if has_addresses { text.as_ptr() } else { std::ptr::null() };
            let peer = abi::resay_peer {
                struct_size: (size_of::<abi::resay_peer>() + extra(self.shape)) as u32,
                kind,
                id: desk.next_id(kind),
                local: address(c"tcp://127.0.0.1:8888"),
                peer: address(c"tcp://127.0.0.1:50000"),
                listener: address(c"tcp://127.0.0.1:8888"),
            };
            let peer = place_struct(&desk.structs, peer, extra(self.shape));
            let text = ErrorText::new(ERROR_BYTES);
            let _guard = self.guard();
            // SAFETY: a living instance, zeroed memory as the table asks for, the rest for the call.
            let status = unsafe { open(self.own, session.place.cast(), peer, text.raw) };
            let text = text.check("session_open()");
            if status != abi::RESAY_OK {
                session.forget();
                expect_error(status, "session_open()")?;
                return Ok(Err(Refusal { status, text: text? }));
            }
            text?;
            // Valid during the call only: whoever looks later sees this.
            // SAFETY: as many bytes of the arena as were written.
            unsafe { peer.cast::<u8>().write_bytes(POISON, size_of::<abi::resay_peer>()) };
        }
        if self.table.promises(abi::RESAY_CAP_GREETS)
            && self.table.fields.map.is_none()
            && kind != abi::RESAY_DATAGRAM
        {
            session.greet(desk)?;
        }
        Ok(Ok(session))
    }

    pub(super) fn guard(&self) -> Option<MutexGuard<'_, ()>> {
        (self.table.fields.threading == abi::RESAY_SERIAL)
            .then(|| self.serial.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the host's struct is as it was.
    pub(crate) fn check_host(&self) -> Kept<()> {
        if self.host.is_unharmed() {
            return Ok(());
        }
        Err(Breach::of(
            Promise::StructSize,
            "it wrote behind the fields of resay_host that it knows".to_owned(),
        ))
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.fields.destroy {
            step(format!("destroy() of {}", self.table.id));
            // SAFETY: what create() gave; sessions borrow this, so all are closed.
            unsafe { destroy(self.own) }
        }
    }
}
