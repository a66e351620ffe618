//! What the `instance` of a table points to, of a transform and of a filter.

use crate::abi;
use crate::error::Error;
use crate::host::{Host, HostTable, Setup};
use crate::options::Options;
use crate::panics::{self, Living};
use core::ffi::c_void;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) struct Instance<T> {
    pub(crate) host: HostTable,
    pub(crate) value: T,
    _living: Living,
}

impl<T> Instance<T> {
    /// What create() of a table does: makes a value, and stores where it is.
    ///
    /// # Safety
    /// All but `make` are create()'s own arguments, or what is declared in the table that it is passed, for the call.
    pub(crate) unsafe fn create(
        host: *const abi::resay_host,
        (declared, given, n): (Option<(*const abi::resay_option, u32)>, *const abi::resay_kv, usize),
        make: impl FnOnce(&Setup<'_>) -> Result<T, Error>,
        instance: *mut *mut c_void,
        err: *mut abi::resay_text,
    ) -> abi::resay_status {
        let made = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the host outlives the instance.
            let host = unsafe { HostTable::new(host) };
            let living = Living::new(&host);
            // SAFETY: by the contract.
            let options = unsafe { Options::new(declared, given, n) };
            let value = panics::noted(|| make(&Setup::new(Host::new(&host), options)))?;
            // SAFETY: an Instance is never empty: it has a HostTable.
            let memory = unsafe { alloc(Layout::new::<Self>()) }.cast::<Self>();
            if memory.is_null() {
                return Err(Error::no_memory());
            }
            // SAFETY: new memory of that layout; where to put the pointer is the host's.
            unsafe {
                memory.write(Instance { host, value, _living: living });
                instance.write(memory.cast());
            }
            Ok(())
        }));
        // SAFETY: by the contract.
        unsafe { panics::report(made, err) }
    }

    /// What destroy() of a table does.
    ///
    /// # Safety
    /// `instance` is NULL or what [`create`](Self::create) stored, and nothing uses it any more.
    pub(crate) unsafe fn destroy(instance: *mut c_void) {
        let Some(instance) = NonNull::new(instance.cast::<Self>()) else { return };
        // SAFETY: by the contract.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { instance.drop_in_place() }));
        // SAFETY: allocated by create() with this layout, and dropped, as far as its Drop let it.
        unsafe { dealloc(instance.as_ptr().cast(), Layout::new::<Self>()) };
        if let Err(panic) = dropped {
            panics::bury(panic);
        }
    }
}
