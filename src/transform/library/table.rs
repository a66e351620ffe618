//! One transform as a library, or the host, offers it in a table, checked once.

use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::sync::Arc;

use resay_plugin::abi::{self, resay_bytes, resay_io, resay_kv, resay_text, resay_transform};
use resay_plugin::inspect;

use super::lifecycle::PluginLibrary;

/// One transform, as its owner offers it. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Table {
    described: Arc<Described>,
    /// Of a plugin file: what its instances share.
    pub(super) library: Option<&'static PluginLibrary>,
}

/// What its owner says of a transform.
struct Described {
    by_owner: inspect::Transform,
    name: &'static CStr,
}

// SAFETY: a table is constant data by the ABI's contract and outlives the engine; see `Table::new`.
unsafe impl Send for Described {}
// SAFETY: as above.
unsafe impl Sync for Described {}

/// An option that a transform declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHelp<'a> {
    /// The name.
    pub key: &'a str,
    /// The type, in the plugin's words: `bool`, `duration`, …
    pub kind: &'a str,
    /// The default; `None`: the option must be given.
    pub fallback: Option<&'a str>,
    /// One line.
    pub help: &'a str,
    /// What a number counts, empty where nothing is said: `messages`, `bytes/s`.
    pub unit: &'a str,
    /// The least value, empty where there is no limit but the type's.
    pub min: &'a str,
    /// The greatest value, in the same way.
    pub max: &'a str,
}

impl From<&inspect::OptionTexts> for OptionHelp<'static> {
    fn from(option: &inspect::OptionTexts) -> OptionHelp<'static> {
        OptionHelp {
            key: option.key,
            kind: option.kind,
            fallback: option.fallback,
            help: option.help.unwrap_or(""),
            unit: option.unit.unwrap_or(""),
            min: option.min.unwrap_or(""),
            max: option.max.unwrap_or(""),
        }
    }
}

impl From<inspect::Transform> for Table {
    fn from(by_owner: inspect::Transform) -> Table {
        // SAFETY: the id was read as a NUL-terminated string, and stays.
        let name = unsafe { CStr::from_ptr(by_owner.fields.id) };
        Table { described: Arc::new(Described { by_owner, name }), library: None }
    }
}

impl Table {
    /// Checks a table and takes it in.
    ///
    /// # Safety
    /// `raw` is NULL or points to a `resay_transform` of at least `struct_size` bytes (so at least four) that
    /// never changes, and everything it points to likewise, until the last engine that uses it is gone.
    pub(crate) unsafe fn new(raw: *const resay_transform) -> std::result::Result<Table, String> {
        // SAFETY: the contract above. What an older header lacks is zero.
        unsafe { inspect::transform(raw) }.map(Table::from)
    }

    /// One of a plugin file.
    pub(super) fn of_library(self, library: &'static PluginLibrary) -> Table {
        Table { library: Some(library), ..self }
    }

    /// The name that chains know it by, as C has it.
    pub(super) fn name(&self) -> &'static CStr {
        self.described.name
    }

    /// What the owner knows it by, and is passed back.
    pub(super) fn raw(&self) -> *const resay_transform {
        self.described.by_owner.raw
    }

    /// The fields, as far as the owner's struct goes; the rest is zero.
    #[inline]
    pub(super) fn fields(&self) -> &resay_transform {
        &self.described.by_owner.fields
    }

    /// The name that chains know it by.
    pub(crate) fn id(&self) -> &'static str {
        self.described.by_owner.id
    }

    pub(crate) fn version(&self) -> &'static str {
        self.described.by_owner.version
    }

    pub(crate) fn summary(&self) -> &'static str {
        self.described.by_owner.summary
    }

    /// `RESAY_CAP_` bits.
    pub(crate) fn caps(&self) -> u32 {
        self.fields().caps
    }

    /// `RESAY_NEED_` bits.
    pub(crate) fn needs(&self) -> u32 {
        self.fields().needs
    }

    /// `RESAY_SHARED`, `RESAY_PER_WORKER` or `RESAY_SERIAL`.
    pub(crate) fn threading(&self) -> u32 {
        self.fields().threading
    }

    pub(crate) fn options(&self) -> Vec<OptionHelp<'static>> {
        self.described.by_owner.options.iter().map(OptionHelp::from).collect()
    }

    pub(crate) fn is_per_worker(&self) -> bool {
        self.fields().threading == abi::RESAY_PER_WORKER
    }

    /// What carries a session to another instance: `resay.session-state/1`.
    pub(super) fn session_state(&self) -> std::result::Result<Option<SessionState>, String> {
        let Some(extension) = self.fields().extension else { return Ok(None) };
        // SAFETY: the owner's own pointer and a NUL-terminated name, as the ABI asks; an extension of that name is a
        // resay_session_state of struct_size bytes.
        let state = unsafe {
            inspect::session_state(extension(self.raw(), abi::RESAY_EXT_SESSION_STATE.as_ptr()).cast())
        }?;
        let complete = |state: abi::resay_session_state| {
            Some(SessionState { schema: state.schema, save: state.save?, load: state.load? })
        };
        Ok(state.and_then(complete))
    }

    /// Whether it may block, and so runs off the workers.
    pub(crate) fn is_offloaded(&self) -> bool {
        self.fields().needs & abi::RESAY_NEED_OFFLOAD != 0
    }

    /// Whether it only takes whole messages.
    pub(crate) fn needs_messages(&self) -> bool {
        self.fields().needs & abi::RESAY_NEED_MESSAGES != 0
    }

    /// The table that the transform wants for these options: `resay.select/1`.
    pub(super) fn select(self, options: &[resay_kv]) -> std::result::Result<Table, String> {
        let Some(extension) = self.fields().extension else { return Ok(self) };
        // SAFETY: the owner's own pointer and a NUL-terminated name, as the ABI asks.
        let found = unsafe { extension(self.raw(), abi::RESAY_EXT_SELECT.as_ptr()) };
        // SAFETY: an extension of that name is a resay_select of struct_size bytes.
        let select =
            unsafe { inspect::select(found.cast()) }.map_err(|what| format!("{}: {what}", self.id()))?;
        let Some(select) = select.and_then(|select| select.select) else { return Ok(self) };
        // SAFETY: the pairs live during the call.
        let chosen = unsafe { select(self.raw(), options.as_ptr(), options.len()) };
        if chosen.is_null() || chosen == self.raw() {
            return Ok(self);
        }
        // SAFETY: a table of the same owner, with the same lifetime.
        let chosen = Table { library: self.library, ..unsafe { Table::new(chosen) }? };
        if chosen.id() != self.id() {
            return Err(format!(
                "{}: resay.select/1 gave a transform with another id, {}",
                self.id(),
                chosen.id()
            ));
        }
        Ok(chosen)
    }
}

type Save = unsafe extern "C" fn(*mut c_void, *const c_void, *mut resay_io) -> i32;
type Load =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_char, resay_bytes, *mut resay_text) -> i32;

/// `resay.session-state/1` of a transform, complete.
#[derive(Clone, Copy)]
pub(super) struct SessionState {
    pub(super) schema: *const c_char,
    pub(super) save: Save,
    pub(super) load: Load,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} {})", self.id(), self.version())
    }
}

/// An alignment of 0 is that of malloc(3).
pub(super) fn session_align(fields: &resay_transform) -> usize {
    match fields.session_align {
        0 => align_of::<libc::max_align_t>(),
        align => align as usize,
    }
}
