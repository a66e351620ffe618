//! Tables: the description of a transform for the host, built at compile time.

use crate::abi;
use crate::filter::FilterTable;
use crate::growing::Growing;
use crate::options::{OptionSpec, Options};
use crate::panics;
use crate::shim;
use crate::state::Carry;
use crate::transform::{Lifecycle, Map, Process, Transform};
use core::ffi::{CStr, c_char, c_void};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A transform as the host sees it. It must be a `static`, because the host keeps its address.
///
/// ```
/// # use resay_plugin::{Call, Error, Map, Setup, Status, Table, Transform};
/// # struct Flip;
/// # impl Transform for Flip {
/// #     type Session = ();
/// #     fn create(_: &Setup<'_>) -> Result<Self, Error> { Ok(Flip) }
/// # }
/// # impl Map for Flip {
/// #     fn map(&self, _: Call<'_, ()>, _: &mut [u8]) -> Status { Status::Ok }
/// # }
/// pub static TABLE: Table = Table::map::<Flip>(c"flip")
///     .version(c"1.0.0")
///     .summary(c"flips the case of letters")
///     .bytewise()
///     .build();
/// ```
#[repr(C)]
pub struct Table {
    raw: abi::resay_transform, // first: a pointer to the one is a pointer to the other
    select: Option<Select>,
    session_state: Option<&'static abi::resay_session_state>,
}

/// The function that selects another table. See [`Draft::select`].
type Select = fn(&Options<'_>) -> Option<&'static Table>;

impl Table {
    /// Begins the table of a transform that works in place.
    pub const fn map<T: Map>(id: &'static CStr) -> Draft<T> {
        let mut draft = Draft::<T>::new(id);
        draft.table.raw.map = Some(shim::map::<T>);
        draft
    }

    /// Begins the table of a transform with an input and an output.
    pub const fn process<T: Process>(id: &'static CStr) -> Draft<T> {
        let mut draft = Draft::<T>::new(id);
        draft.table.raw.process = Some(shim::process::<T>);
        draft
    }

    /// The table for C, and for a program that registers it without a library.
    pub const fn raw(&'static self) -> *const abi::resay_transform {
        (&raw const *self).cast()
    }

    /// The name in a chain.
    pub fn id(&self) -> &'static CStr {
        // SAFETY: Draft::new put a &'static CStr there.
        unsafe { CStr::from_ptr(self.raw.id) }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("id", &self.id()).field("caps", &self.raw.caps).finish_non_exhaustive()
    }
}

/// A builder of a [`Table`]. Each method sets one field.
#[must_use = "a draft becomes a table by build()"]
pub struct Draft<T> {
    table: Table,
    of: PhantomData<fn() -> T>,
}

impl<T: Transform> Draft<T> {
    const fn new(id: &'static CStr) -> Self {
        assert!(size_of::<T::Session>() <= u32::MAX as usize, "a session is too large");
        let mut raw = abi::resay_transform {
            id: id.as_ptr(),
            session_size: size_of::<T::Session>() as u32,
            session_align: align_of::<T::Session>() as u32,
            create: Some(shim::create::<T>),
            destroy: Some(shim::destroy::<T>),
            extension: Some(extension),
            ..abi::resay_transform::EMPTY
        };
        if shim::has_session::<T>() {
            raw.session_open = Some(shim::session_open::<T>);
            raw.session_close = Some(shim::session_close::<T>);
        }
        Self { table: Table { raw, select: None, session_state: None }, of: PhantomData }
    }

    /// The version of the transform, for display; [`package_version!`](crate::package_version) is that of the package.
    pub const fn version(mut self, version: &'static CStr) -> Self {
        self.table.raw.version = version.as_ptr();
        self
    }

    /// One line of description.
    pub const fn summary(mut self, summary: &'static CStr) -> Self {
        self.table.raw.summary = summary.as_ptr();
        self
    }

    /// The options that the transform accepts. The host refuses all others.
    pub const fn options(mut self, options: &'static [OptionSpec]) -> Self {
        self.table.raw.options = options.as_ptr().cast(); // OptionSpec is transparent
        self.table.raw.n_options = options.len() as u32;
        self
    }

    /// Promises that each byte of output depends only on the same byte of input: then the host may split and merge
    /// messages.
    pub const fn bytewise(self) -> Self {
        self.promises(abi::RESAY_CAP_BYTEWISE)
    }

    /// Promises that the transform only reads the bytes.
    pub const fn observer(self) -> Self {
        self.promises(abi::RESAY_CAP_OBSERVER)
    }

    /// Requires whole messages: never on a raw stream.
    pub const fn needs_messages(self) -> Self {
        self.requires(abi::RESAY_NEED_MESSAGES)
    }

    /// Requires calls on a thread pool and not on a worker, because they may block.
    pub const fn may_block(self) -> Self {
        self.requires(abi::RESAY_NEED_OFFLOAD)
    }

    /// Requests an instance for each worker, so that they share no counters.
    pub const fn per_worker(self) -> Self {
        self.threading(abi::RESAY_PER_WORKER)
    }

    /// Requests one call of the instance at a time: the host takes a lock.
    pub const fn serial(self) -> Self {
        self.threading(abi::RESAY_SERIAL)
    }

    /// Sets a function that selects another table by the options, for a transform whose promises depend on them. That
    /// table has the same id and options, and its own `select` is not called. `None` keeps this table. If a value is
    /// invalid, return `None` too; `create` then reports the error.
    pub const fn select(mut self, select: fn(&Options<'_>) -> Option<&'static Table>) -> Self {
        self.table.select = Some(select);
        self
    }

    /// Carries sessions over when the chain is replaced. See [`Carry`].
    pub const fn carries_sessions(mut self) -> Self
    where
        T: Carry,
    {
        self.table.session_state = Some(const { &shim::session_state::<T>() });
        self
    }

    /// The table.
    pub const fn build(self) -> Table {
        self.table
    }

    const fn promises(mut self, cap: u32) -> Self {
        self.table.raw.caps |= cap;
        self
    }

    const fn requires(mut self, need: u32) -> Self {
        self.table.raw.needs |= need;
        self
    }

    const fn threading(mut self, threading: u32) -> Self {
        self.table.raw.threading = threading;
        self
    }
}

impl<T: Process> Draft<T> {
    /// Promises that `n` bytes of input produce at most `n * mul / div + add` bytes of output, so that the host
    /// provides a sufficient buffer at once. `div` must not be 0.
    pub const fn bound(mut self, mul: u32, div: u32, add: u32) -> Self {
        assert!(div != 0, "a bound divides by something");
        (self.table.raw.out_mul, self.table.raw.out_div, self.table.raw.out_add) = (mul, div, add);
        self
    }

    /// Requests one call with empty input when a connection opens, before anything is received.
    pub const fn greets(self) -> Self {
        self.promises(abi::RESAY_CAP_GREETS)
    }
}

impl<T> fmt::Debug for Draft<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("table", &self.table).finish()
    }
}

impl abi::resay_transform {
    /// All fields zero except `struct_size`: the start of a hand-written table.
    pub const EMPTY: Self = Self {
        struct_size: size_of::<Self>() as u32,
        caps: 0,
        needs: 0,
        threading: abi::RESAY_SHARED,
        id: core::ptr::null(),
        version: core::ptr::null(),
        summary: core::ptr::null(),
        user: core::ptr::null_mut(),
        options: core::ptr::null(),
        n_options: 0,
        session_size: 0,
        session_align: 0,
        out_mul: 0,
        out_div: 0,
        out_add: 0,
        create: None,
        destroy: None,
        session_open: None,
        session_close: None,
        map: None,
        process: None,
        extension: None,
        option_size: size_of::<abi::resay_option>() as u32,
        reserved: 0,
    };
}

static SELECT: abi::resay_select =
    abi::resay_select { struct_size: size_of::<abi::resay_select>() as u32, select: Some(select) };

unsafe extern "C" fn extension(table: *const abi::resay_transform, id: *const c_char) -> *const c_void {
    if table.is_null() || id.is_null() {
        return core::ptr::null();
    }
    // SAFETY: the host passes the table's own pointer, which Table::raw made, and a NUL-ended id.
    let (table, id) = unsafe { (&*table.cast::<Table>(), CStr::from_ptr(id)) };
    if id == abi::RESAY_EXT_SELECT && table.select.is_some() {
        return (&raw const SELECT).cast();
    }
    match table.session_state {
        Some(state) if id == abi::RESAY_EXT_SESSION_STATE => (&raw const *state).cast(),
        _ => core::ptr::null(),
    }
}

unsafe extern "C" fn select(
    table: *const abi::resay_transform,
    options: *const abi::resay_kv,
    n_options: usize,
) -> *const abi::resay_transform {
    let call = || {
        // SAFETY: as in extension(), which offered this function for this table.
        let select = unsafe { (*table.cast::<Table>()).select }?;
        // SAFETY: the host passes the table's own pointer, which is NULL or one of ours.
        let declared = unsafe { table.as_ref() }.map(|table| (table.options, table.n_options));
        // SAFETY: select()'s own arguments, for the call.
        select(&unsafe { Options::new(declared, options, n_options) })
    };
    // create() will say what is wrong.
    match panics::noted(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(selected) => selected.map_or(core::ptr::null(), Table::raw),
        Err(panic) => {
            panics::bury(panic);
            core::ptr::null()
        }
    }
}

/// The contents of a plugin library. [`export!`](crate::export) makes one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Library(abi::resay_library);

impl Library {
    /// A library of these tables; the path of the library alone names the first one.
    pub const fn new(tables: &'static [&'static Table]) -> Self {
        Self::with::<()>(tables)
    }

    /// The same, with what is done before its first instance and after its last.
    pub const fn with<L: Lifecycle>(tables: &'static [&'static Table]) -> Self {
        Self(abi::resay_library {
            struct_size: size_of::<abi::resay_library>() as u32,
            abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
            flags: 0, // never RESAY_LIB_UNLOADABLE: the thread-locals of a Rust library outlive its calls
            n: tables.len() as u32,
            transforms: tables.as_ptr().cast(), // a reference to a Table is a pointer to its raw table
            shutdown: Some(shim::shutdown::<L>),
            init: Some(shim::init::<L>),
            filters: core::ptr::null(),
            n_filters: 0,
            reserved: 0,
        })
    }

    /// The same library, with filters.
    pub const fn filters(mut self, filters: &'static [&'static FilterTable]) -> Self {
        self.0.filters = filters.as_ptr().cast(); // a reference to a FilterTable is a pointer to its raw table
        self.0.n_filters = filters.len() as u32;
        self
    }

    /// The library for C.
    pub const fn raw(&'static self) -> *const abi::resay_library {
        (&raw const *self).cast()
    }
}

/// Defines `resay_plugin_v1`, the only entry of a plugin library: `resay_plugin::export!(TABLE);`, or with a [`Lifecycle`]
/// of the library `resay_plugin::export!(FIRST, SECOND; lifecycle = Words);`.
///
/// Its arguments are `static` [`Table`]s. Use it once, in a crate of type `cdylib` that nothing else links: one program
/// cannot contain two such entries. Rust treats an exported name as unsafe, so that crate cannot forbid unsafe code; the
/// crate of the transform can.
#[macro_export]
macro_rules! export {
    ($($table:path),+ $(,)?) => {
        $crate::export!($($table),+; lifecycle = ());
    };
    ($($table:path),+ $(,)?; lifecycle = $lifecycle:ty) => {
        const _: () = {
            static LIBRARY: $crate::Library = $crate::Library::with::<$lifecycle>(&[$(&$table),+]);

            // SAFETY: the name belongs to the plugin ABI; a library of another's has none of its own.
            #[unsafe(no_mangle)]
            extern "C" fn resay_plugin_v1(_host_abi_minor: u32) -> *const $crate::abi::resay_library {
                LIBRARY.raw()
            }
        };
    };
}

/// [`export!`](crate::export) for a library of filters: `resay_plugin::export_filters!(TABLE);`. Its arguments are `static`
/// [`FilterTable`]s.
#[macro_export]
macro_rules! export_filters {
    ($($table:path),+ $(,)?) => {
        const _: () = {
            static LIBRARY: $crate::Library = $crate::Library::new(&[]).filters(&[$(&$table),+]);

            // SAFETY: the name belongs to the plugin ABI; a library of another's has none of its own.
            #[unsafe(no_mangle)]
            extern "C" fn resay_plugin_v1(_host_abi_minor: u32) -> *const $crate::abi::resay_library {
                LIBRARY.raw()
            }
        };
    };
}

/// The version of the package being compiled, for [`Draft::version`](crate::Draft::version).
#[macro_export]
macro_rules! package_version {
    () => {
        const {
            match ::core::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes())
            {
                Ok(version) => version,
                Err(_) => c"",
            }
        }
    };
}

/// A table is shared with every thread of the host, and pointers to the two are interchangeable.
const _: () = {
    const fn is_sync<T: Sync>() {}
    is_sync::<Table>();
    is_sync::<Library>();
    const fn grows<T: Growing>() {}
    grows::<abi::resay_transform>();
    assert!(core::mem::offset_of!(Table, raw) == 0);
};
