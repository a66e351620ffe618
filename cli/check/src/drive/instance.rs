//! Instances: created, locked as declared, destroyed.

use super::buffers::ErrorText;
use super::call::expect_error;
use crate::child::step;
use crate::host::{Host, HostVersion, calling};
use crate::promise::Promise;
use crate::table::{Pairs, Table};
use crate::verdict::{Check, Violation};
use resay_plugin::abi;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why create() or session_open() failed.
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
    pub(super) shape: HostVersion,
}

// SAFETY: the instance is the plugin's, which declares from where it may be called; `Threads` keeps to that.
unsafe impl Sync for Instance<'_> {}
// SAFETY: as above; it may move between threads with every declaration.
unsafe impl Send for Instance<'_> {}

impl<'a> Instance<'a> {
    /// Calls create() with this many bytes for an error's text; `None`: with err NULL.
    pub(crate) fn create(
        table: &'a Table,
        pairs: &Pairs,
        shape: HostVersion,
        room: Option<usize>,
    ) -> Check<Result<Instance<'a>, Refusal>> {
        let err = room.map_or("err NULL".to_owned(), |room| format!("err->cap {room}"));
        step(format!("create() of {} in {shape}, {err}", table.id));
        let host = Host::new(shape);
        let mut own = std::ptr::null_mut();
        if let Some(create) = table.fields.create {
            let raw = pairs.raw();
            let text = room.map(ErrorText::new);
            let err = text.as_ref().map_or(std::ptr::null_mut(), |text| text.raw);
            // SAFETY: everything lives during the call, the host until destroy().
            let status = calling(abi::RESAY_THREAD_CONTROL, || unsafe {
                create(table.raw, host.raw(), raw.as_ptr(), raw.len(), &mut own, err)
            });
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

    pub(super) fn guard(&self) -> Option<MutexGuard<'_, ()>> {
        (self.table.fields.threading == abi::RESAY_SERIAL)
            .then(|| self.serial.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the host's struct is as it was.
    pub(crate) fn check_host(&self) -> Check<()> {
        if self.host.is_unharmed() {
            return Ok(());
        }
        Err(Violation::of(
            Promise::StructSize,
            "it wrote beyond the fields of resay_host that its ABI minor has".to_owned(),
        ))
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.fields.destroy {
            step(format!("destroy() of {}", self.table.id));
            // SAFETY: what create() gave; sessions borrow this, so all are closed.
            calling(abi::RESAY_THREAD_CONTROL, || unsafe { destroy(self.own) });
        }
    }
}
