//! DOOR: plugins. The ABI table of `resay_plugin.h` as values that safe code can call.
//!
//! - [`Table`]: one transform as a library, or the host, offers it, checked once.
//! - [`Instance`]: a created one, with its options and what the host offers it.
//! - [`Stages`]: the instances of a chain, in order, and the layout of a session's memory.
//! - [`Session`]: that memory for one conversation; the calls `map` and `process` are made through it.
//! - [`load`]: dlopen of a plugin file. A library is never closed: a table, once seen, stays valid.
//!
//! What the other side may not do is checked here where it can be seen (statuses, lengths); its own memory
//! errors cannot.

use std::alloc::{self, Layout};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::fs;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use resay_plugin::abi::{
    self, resay_host, resay_io, resay_kv, resay_library, resay_peer, resay_text, resay_transform,
};

use crate::error::{Error, Result};
use crate::event::{Event, Events, Kind, Level};
use crate::net::Peer;

/// Sessions are small; more is a mistake in the table.
const SESSION_BYTES_MAX: usize = 1024 * 1024;
const SESSION_ALIGN_MAX: usize = 4096;
const NEEDS_KNOWN: u32 = abi::RESAY_NEED_MESSAGES | abi::RESAY_NEED_OFFLOAD;
const ERROR_TEXT_BYTES: usize = 512;
const COUNTERS_MAX: usize = 256;

/// One transform, as its owner offers it. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Table {
    /// What the owner knows it by, and is passed back.
    raw: *const resay_transform,
    /// The fields, as far as the owner's struct goes; the rest is zero.
    fields: Arc<resay_transform>,
    id: &'static str,
}

// SAFETY: a table is constant data by the ABI's contract and outlives the engine; see `Table::new`.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// An option that a transform declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHelp<'a> {
    /// The name.
    pub key: &'a str,
    /// The type, in the plugin's words: `bool`, `duration`, …
    pub kind: &'a str,
    /// The default, empty where there is none.
    pub fallback: &'a str,
    /// One line.
    pub help: &'a str,
}

impl Table {
    /// Checks a table and takes it in.
    ///
    /// # Safety
    /// `raw` is NULL or points to a `resay_transform` of at least `struct_size` bytes (so at least four) that
    /// never changes, and everything it points to likewise, until the last engine that uses it is gone.
    pub(crate) unsafe fn new(raw: *const resay_transform) -> std::result::Result<Table, String> {
        if raw.is_null() {
            return Err("the table is NULL".into());
        }
        // SAFETY: not NULL, so at least `struct_size` is there.
        let theirs = unsafe { ptr::addr_of!((*raw).struct_size).read() } as usize;
        if theirs < offset_of!(resay_transform, version) {
            return Err(format!("struct_size {theirs} is too small for a resay_transform"));
        }
        let mut fields = MaybeUninit::<resay_transform>::zeroed();
        // SAFETY: the smaller of both sizes is copied; all zero is valid for the rest (NULL, None, 0).
        let fields = unsafe {
            ptr::copy_nonoverlapping(
                raw.cast::<u8>(),
                fields.as_mut_ptr().cast::<u8>(),
                theirs.min(size_of::<resay_transform>()),
            );
            fields.assume_init()
        };
        // SAFETY: the contract above covers the strings.
        let id = unsafe { text(fields.id) }.ok_or("the id is missing or not UTF-8")?;
        if !crate::transform::is_name(id) {
            return Err(format!("the id {id:?} is not a name ([a-z0-9][a-z0-9._-]*)"));
        }
        let unknown = fields.needs & !NEEDS_KNOWN;
        if unknown != 0 {
            return Err(format!("{id}: needs what this engine does not know (bits {unknown:#x})"));
        }
        if fields.needs & abi::RESAY_NEED_OFFLOAD != 0 {
            return Err(format!("{id}: needs RESAY_NEED_OFFLOAD, which this version does not provide"));
        }
        if fields.map.is_none() && fields.process.is_none() {
            return Err(format!("{id}: has neither map nor process"));
        }
        if fields.threading > abi::RESAY_SERIAL {
            return Err(format!("{id}: unknown threading {}", fields.threading));
        }
        let align = session_align(&fields);
        if !align.is_power_of_two() || align > SESSION_ALIGN_MAX {
            return Err(format!(
                "{id}: session_align {align} is not a power of two up to {SESSION_ALIGN_MAX}"
            ));
        }
        if fields.session_size as usize > SESSION_BYTES_MAX {
            return Err(format!("{id}: session_size {} is over {SESSION_BYTES_MAX}", fields.session_size));
        }
        if fields.n_options > 0 && fields.options.is_null() {
            return Err(format!("{id}: options is NULL, n_options is {}", fields.n_options));
        }
        Ok(Table { raw, fields: Arc::new(fields), id })
    }

    /// The name that chains know it by.
    pub(crate) fn id(&self) -> &'static str {
        self.id
    }

    pub(crate) fn version(&self) -> &'static str {
        // SAFETY: see `Table::new`.
        unsafe { text(self.fields.version) }.unwrap_or("")
    }

    pub(crate) fn summary(&self) -> &'static str {
        // SAFETY: see `Table::new`.
        unsafe { text(self.fields.summary) }.unwrap_or("")
    }

    pub(crate) fn options(&self) -> Vec<OptionHelp<'static>> {
        if self.fields.n_options == 0 {
            return Vec::new();
        }
        // SAFETY: `Table::new` saw that the pointer is not NULL; the owner says how many there are.
        let options =
            unsafe { std::slice::from_raw_parts(self.fields.options, self.fields.n_options as usize) };
        // SAFETY: each string is NULL or NUL-terminated and lives as long as the table.
        let text_of = |pointer| unsafe { text(pointer) }.unwrap_or("");
        options
            .iter()
            .map(|option| OptionHelp {
                key: text_of(option.key),
                kind: text_of(option.r#type),
                fallback: text_of(option.fallback),
                help: text_of(option.help),
            })
            .collect()
    }

    pub(crate) fn is_per_worker(&self) -> bool {
        self.fields.threading == abi::RESAY_PER_WORKER
    }

    /// Whether it only takes whole messages.
    pub(crate) fn needs_messages(&self) -> bool {
        self.fields.needs & abi::RESAY_NEED_MESSAGES != 0
    }

    /// The table that the transform wants for these options: `resay.select/1`.
    fn select(self, options: &[resay_kv]) -> std::result::Result<Table, String> {
        let Some(extension) = self.fields.extension else { return Ok(self) };
        // SAFETY: the owner's own pointer and a NUL-terminated name, as the ABI asks.
        let found = unsafe { extension(self.raw, abi::RESAY_EXT_SELECT.as_ptr()) };
        let select = found.cast::<abi::resay_select>();
        if select.is_null() {
            return Ok(self);
        }
        // SAFETY: an extension of that name is a resay_select of struct_size bytes.
        let select = unsafe {
            if (*select).struct_size as usize <= offset_of!(abi::resay_select, select) {
                return Err(format!("{}: resay.select/1 has a struct_size that is too small", self.id));
            }
            (*select).select
        };
        let Some(select) = select else { return Ok(self) };
        // SAFETY: the pairs live during the call.
        let chosen = unsafe { select(self.raw, options.as_ptr(), options.len()) };
        if chosen.is_null() || chosen == self.raw {
            return Ok(self);
        }
        // SAFETY: a table of the same owner, with the same lifetime.
        let chosen = unsafe { Table::new(chosen) }?;
        if chosen.id != self.id {
            return Err(format!(
                "{}: resay.select/1 gave a transform with another id, {}",
                self.id, chosen.id
            ));
        }
        Ok(chosen)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} {})", self.id, self.version())
    }
}

/// An alignment of 0 is that of malloc(3).
fn session_align(fields: &resay_transform) -> usize {
    match fields.session_align {
        0 => align_of::<libc::max_align_t>(),
        align => align as usize,
    }
}

/// The transforms that are linked into the engine.
pub(crate) fn bundled() -> Vec<Table> {
    #[cfg(feature = "bundled")]
    let tables = [resay_identity::TABLE.raw(), resay_uppercase::TABLE.raw()];
    #[cfg(not(feature = "bundled"))]
    let tables: [*const resay_transform; 0] = [];
    // SAFETY: statics of this program.
    tables.into_iter().filter_map(|raw| unsafe { Table::new(raw) }.ok()).collect()
}

/// A C string of the other side. NULL and what is not UTF-8 are `None`.
///
/// # Safety
/// `pointer` is NULL or NUL-terminated and lives for `'a`.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

/// Opens a plugin file and gives its transforms.
///
/// The path is used as it is: neither the dynamic linker's search path nor the working directory's libraries play
/// a part. All symbols are bound at once and stay local (`RTLD_NOW`, `RTLD_LOCAL`).
pub(crate) fn load(path: &Path) -> Result<Vec<Table>> {
    let fault = |reason: String| Error::Plugin { path: path.to_owned(), reason };
    let file = fs::canonicalize(path).map_err(|error| fault(error.to_string()))?;
    let metadata = fs::metadata(&file).map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fault("is not a file".into()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(fault("is writable by everyone, so anybody could replace it (chmod o-w)".into()));
    }
    // SAFETY: running a library's initialisers is what loading a plugin means; the user named this file.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| fault(innermost(&error)))?;
    // SAFETY: the one symbol of the ABI has this type.
    let entry =
        unsafe { library.get::<abi::resay_plugin_entry>(c"resay_plugin_v1") }.map(|symbol| *symbol).map_err(
            |_| fault("has no resay_plugin_v1: not a Resay plugin, or of another ABI major".into()),
        )?;
    // From here on something of the library may be in use: it is never closed.
    std::mem::forget(library);
    // SAFETY: the entry is pure and takes any minor version.
    let described = unsafe { entry(abi::RESAY_PLUGIN_ABI_MINOR) };
    if described.is_null() {
        return Err(fault("does not support this engine (resay_plugin_v1 answered NULL)".into()));
    }
    // SAFETY: a resay_library is at least its struct_size.
    let size = unsafe { ptr::addr_of!((*described).struct_size).read() } as usize;
    if size < offset_of!(resay_library, transforms) + size_of::<usize>() {
        return Err(fault(format!("struct_size {size} is too small for a resay_library")));
    }
    // SAFETY: the size covers both fields.
    let (count, transforms) = unsafe { ((*described).n as usize, (*described).transforms) };
    if count == 0 || transforms.is_null() {
        return Err(fault("offers no transform".into()));
    }
    // SAFETY: the library says that there are `count` pointers.
    let transforms = unsafe { std::slice::from_raw_parts(transforms, count) };
    let mut tables: Vec<Table> = Vec::with_capacity(count);
    for &raw in transforms {
        // SAFETY: a table of a library that is never closed.
        let table = unsafe { Table::new(raw) }.map_err(fault)?;
        if tables.iter().any(|other| other.id == table.id) {
            return Err(fault(format!("offers {} twice", table.id)));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// The dynamic linker's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Named counters of transforms, for one engine.
#[derive(Debug)]
pub(crate) struct Counters {
    names: Mutex<Vec<String>>,
    values: [AtomicU64; COUNTERS_MAX],
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters { names: Mutex::default(), values: [const { AtomicU64::new(0) }; COUNTERS_MAX] }
    }

    /// The id of `name`, from 1; 0 where there is no room.
    fn id(&self, name: &str) -> u32 {
        let mut names = lock(&self.names);
        if let Some(index) = names.iter().position(|known| known == name) {
            return index as u32 + 1;
        }
        if names.len() == COUNTERS_MAX {
            return 0;
        }
        names.push(name.to_owned());
        names.len() as u32
    }

    fn add(&self, id: u32, n: u64) {
        if let Some(value) = (id as usize).checked_sub(1).and_then(|index| self.values.get(index)) {
            value.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// All counters with their values, in the order of their first use.
    pub(crate) fn read(&self) -> Vec<(String, u64)> {
        let names = lock(&self.names);
        names.iter().cloned().zip(self.values.iter().map(|value| value.load(Ordering::Relaxed))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an engine offers its transforms.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) events: Arc<Events>,
    pub(crate) counters: Arc<Counters>,
}

/// The host's side of one instance; `resay_host.ctx` points to it.
struct HostContext {
    id: &'static str,
    services: Services,
}

unsafe extern "C" fn host_log(ctx: *mut c_void, level: c_int, utf8: *const c_char, len: usize) {
    if ctx.is_null() || utf8.is_null() {
        return;
    }
    // SAFETY: `ctx` is the HostContext that was handed out with this function, alive until destroy() returns.
    let context = unsafe { &*ctx.cast::<HostContext>() };
    // SAFETY: the plugin lends `len` bytes for the call.
    let line = unsafe { std::slice::from_raw_parts(utf8.cast::<u8>(), len) };
    let line = String::from_utf8_lossy(line);
    context.services.events.emit(&Event {
        level: Level::from_number(level),
        kind: Kind::TransformLog,
        listener: "",
        connection: 0,
        peer: None,
        text: &format_args!("{}: {line}", context.id),
    });
}

unsafe extern "C" fn host_counter(ctx: *mut c_void, name: *const c_char) -> u32 {
    if ctx.is_null() {
        return 0;
    }
    // SAFETY: as in `host_log`; the name is NULL or NUL-terminated.
    let (context, name) = unsafe { (&*ctx.cast::<HostContext>(), text(name)) };
    name.map_or(0, |name| context.services.counters.id(&format!("{}.{name}", context.id)))
}

unsafe extern "C" fn host_counter_add(ctx: *mut c_void, id: u32, n: u64) {
    if !ctx.is_null() {
        // SAFETY: as in `host_log`.
        unsafe { &*ctx.cast::<HostContext>() }.services.counters.add(id, n);
    }
}

unsafe extern "C" fn host_extension(_: *mut c_void, _: *const c_char) -> *const c_void {
    ptr::null()
}

/// A transform that has been created. Destroyed when the last user is gone.
pub(crate) struct Instance {
    table: Table,
    own: *mut c_void,
    /// Set by a panic in the plugin: nothing is sent through it any more.
    quarantined: AtomicBool,
    /// For `RESAY_SERIAL`.
    serial: Option<Mutex<()>>,
    _host: Box<resay_host>,
    _context: Box<HostContext>,
}

// SAFETY: `own` is the plugin's; the table's threading says from where it may be called, and `Stages` keeps to it.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Creates an instance. Options that the transform does not declare are refused here, with what it offers.
    pub(crate) fn create(
        table: Table,
        options: &[(String, Vec<u8>)],
        services: &Services,
    ) -> Result<Instance> {
        let fault = |reason: String| Error::Transform { id: table.id.to_owned(), reason };
        let declared = table.options();
        let mut keys = Vec::with_capacity(options.len());
        for (key, _) in options {
            if !declared.iter().any(|option| option.key == key) {
                return Err(fault(unknown_option(key, &declared)));
            }
            keys.push(CString::new(key.as_str()).map_err(|_| fault("a key has a NUL".into()))?);
        }
        let pairs: Vec<resay_kv> = keys
            .iter()
            .zip(options)
            .map(|(key, (_, value))| resay_kv {
                key: key.as_ptr(),
                value: abi::resay_bytes { ptr: value.as_ptr(), len: value.len() },
            })
            .collect();
        let table = table.select(&pairs).map_err(fault)?;
        let context = Box::new(HostContext { id: table.id, services: services.clone() });
        let host = Box::new(resay_host {
            struct_size: size_of::<resay_host>() as u32,
            abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
            ctx: ptr::from_ref(&*context).cast_mut().cast(),
            log_level: services.events.level().as_ptr().cast_const(),
            log: Some(host_log),
            counter: Some(host_counter),
            counter_add: Some(host_counter_add),
            extension: Some(host_extension),
        });
        let mut own = ptr::null_mut();
        if let Some(create) = table.fields.create {
            let mut text = ErrorText::new();
            // SAFETY: every pointer lives during the call, `host` until destroy().
            let status = unsafe {
                create(table.raw, &*host, pairs.as_ptr(), pairs.len(), &mut own, &mut text.as_abi())
            };
            if status != abi::RESAY_OK {
                return Err(fault(text.or(&format!("create: {}", Fault::Status(status)))));
            }
        }
        let serial = (table.fields.threading == abi::RESAY_SERIAL).then(Mutex::default);
        let quarantined = AtomicBool::new(false);
        Ok(Instance { table, own, quarantined, serial, _host: host, _context: context })
    }

    pub(crate) fn id(&self) -> &'static str {
        self.table.id
    }

    pub(crate) fn needs_messages(&self) -> bool {
        self.table.needs_messages()
    }

    /// Whether it works in place: the length stays, no other memory is needed.
    pub(crate) fn is_map(&self) -> bool {
        self.table.fields.map.is_some() && !self.greets()
    }

    /// Whether it says something when a connection opens. Only `process` can.
    pub(crate) fn greets(&self) -> bool {
        self.table.fields.caps & abi::RESAY_CAP_GREETS != 0 && self.table.fields.process.is_some()
    }

    /// The declared bound of the output for `len` bytes of input; `None` where there is none.
    fn output_bound(&self, len: usize) -> Option<usize> {
        let fields = &*self.table.fields;
        match fields.out_div {
            0 => None,
            div => len
                .checked_mul(fields.out_mul as usize)
                .map(|n| n.div_ceil(div as usize).saturating_add(fields.out_add as usize)),
        }
    }

    fn check(&self, status: i32) -> Status {
        let status = Status::from_code(status);
        if matches!(status, Status::Failed(Fault::Status(abi::RESAY_E_PANIC))) {
            self.quarantined.store(true, Ordering::Relaxed);
        }
        status
    }

    fn guard(&self) -> std::result::Result<Option<MutexGuard<'_, ()>>, Fault> {
        if self.quarantined.load(Ordering::Relaxed) {
            return Err(Fault::Quarantined);
        }
        Ok(self.serial.as_ref().map(lock))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.fields.destroy {
            // SAFETY: what create() gave, once, after the last call that could use it.
            unsafe { destroy(self.own) }
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.table.id)
    }
}

fn unknown_option(key: &str, declared: &[OptionHelp<'_>]) -> String {
    if declared.is_empty() {
        return format!("unknown option {key:?}: it has none");
    }
    let mut text = format!("unknown option {key:?}; it has");
    for option in declared {
        text += &format!(" {}=<{}> ({}", option.key, option.kind, option.help);
        if !option.fallback.is_empty() {
            text += &format!("; default {}", option.fallback);
        }
        text += "),";
    }
    text.pop();
    text
}

/// A buffer for the other side's words.
struct ErrorText {
    bytes: [u8; ERROR_TEXT_BYTES],
}

impl ErrorText {
    fn new() -> ErrorText {
        ErrorText { bytes: [0; ERROR_TEXT_BYTES] }
    }

    /// One byte less than there is: an end is always there.
    fn as_abi(&mut self) -> resay_text {
        resay_text { buf: self.bytes.as_mut_ptr().cast(), cap: ERROR_TEXT_BYTES - 1 }
    }

    fn or(&self, otherwise: &str) -> String {
        match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(text) if !text.is_empty() => text.to_string_lossy().into_owned(),
            _ => otherwise.to_owned(),
        }
    }
}

/// Why a call into a plugin failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It said so.
    Status(i32),
    /// It did what the ABI forbids.
    Broken(&'static str),
    /// It panicked before.
    Quarantined,
    /// Its answer is over the limit.
    TooLong,
    /// `session_open` refused.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(abi::RESAY_E_DATA) => f.write_str("the message cannot be transformed"),
            Fault::Status(abi::RESAY_E_CONFIG) => f.write_str("wrong configuration"),
            Fault::Status(abi::RESAY_E_NOMEM) => f.write_str("out of memory"),
            Fault::Status(abi::RESAY_E_UNSUPPORTED) => f.write_str("not supported"),
            Fault::Status(abi::RESAY_E_PANIC) => f.write_str("the transform panicked"),
            Fault::Status(code) => write!(f, "unknown status {code}"),
            Fault::Broken(what) => write!(f, "the transform broke the ABI: {what}"),
            Fault::Quarantined => f.write_str("the transform panicked before and is not used any more"),
            Fault::TooLong => f.write_str("the answer is over the limit"),
            Fault::Refused(reason) => write!(f, "refused the connection: {reason}"),
        }
    }
}

/// What a call into a plugin answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    MoreOut,
    MoreIn,
    Drop,
    Close,
    Reset,
    Failed(Fault),
}

impl Status {
    fn from_code(code: i32) -> Status {
        match code {
            abi::RESAY_OK => Status::Ok,
            abi::RESAY_MORE_OUT => Status::MoreOut,
            abi::RESAY_MORE_IN => Status::MoreIn,
            abi::RESAY_DROP => Status::Drop,
            abi::RESAY_CLOSE => Status::Close,
            abi::RESAY_RESET => Status::Reset,
            code => Status::Failed(Fault::Status(code)),
        }
    }
}

/// The instances of a chain, in order.
#[derive(Debug)]
pub(crate) struct Stages {
    list: Vec<Stage>,
    /// Of a session's memory: the stages' parts one after another.
    layout: Layout,
    /// Some stage wants to hear of conversations.
    has_sessions: bool,
}

#[derive(Debug)]
struct Stage {
    instance: Arc<Instance>,
    /// Of its part of a session's memory.
    offset: usize,
}

impl Stages {
    pub(crate) fn new(instances: Vec<Arc<Instance>>) -> Result<Stages> {
        let mut layout = Layout::new::<()>();
        let mut list = Vec::with_capacity(instances.len());
        let mut has_sessions = false;
        for instance in instances {
            let fields = &*instance.table.fields;
            has_sessions |=
                fields.session_size > 0 || fields.session_open.is_some() || fields.session_close.is_some();
            let too_large = |_| Error::Transform {
                id: instance.id().to_owned(),
                reason: "the sessions of this chain are too large".to_owned(),
            };
            let part = Layout::from_size_align(fields.session_size as usize, session_align(fields))
                .map_err(too_large)?;
            let (extended, offset) = layout.extend(part).map_err(too_large)?;
            layout = extended;
            list.push(Stage { instance, offset });
        }
        Ok(Stages { list, layout: layout.pad_to_align(), has_sessions })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn instance(&self, stage: usize) -> &Instance {
        &self.list[stage].instance
    }

    pub(crate) fn has_sessions(&self) -> bool {
        self.has_sessions
    }
}

/// Who a session is with, in the ABI's terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionPeer<'a> {
    /// `RESAY_STREAM`, `RESAY_DATAGRAM` or `RESAY_SEQPACKET`.
    pub(crate) kind: u32,
    pub(crate) id: u64,
    pub(crate) local: &'a str,
    pub(crate) peer: &'a Peer,
    pub(crate) listener: &'a str,
}

/// One conversation's memory in every stage of a chain. Not shared: calls through it are `&mut`.
pub(crate) struct Session {
    stages: Arc<Stages>,
    /// Dangling where the layout is empty.
    memory: NonNull<u8>,
    /// How many stages have seen `session_open`.
    opened: usize,
}

// SAFETY: the memory belongs to this value alone; the ABI asks for one call at a time, not for one thread.
unsafe impl Send for Session {}

impl Session {
    /// Opens a conversation in every stage, in order; where one refuses, those before it are closed again.
    pub(crate) fn open(
        stages: &Arc<Stages>,
        peer: &SessionPeer<'_>,
    ) -> std::result::Result<Session, (usize, Fault)> {
        let layout = stages.layout;
        let memory = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the size is not zero.
            NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
                .ok_or((0, Fault::Status(abi::RESAY_E_NOMEM)))?
        };
        let mut session = Session { stages: Arc::clone(stages), memory, opened: 0 };
        session.open_stages(peer)?;
        Ok(session)
    }

    /// Ends the conversation and begins another in the same memory, zeroed.
    pub(crate) fn renew(&mut self, peer: &SessionPeer<'_>) -> std::result::Result<(), (usize, Fault)> {
        if !self.stages.has_sessions {
            return Ok(());
        }
        self.close_stages();
        // SAFETY: the memory has this many bytes (none, where it is dangling) and is ours.
        unsafe { ptr::write_bytes(self.memory.as_ptr(), 0, self.stages.layout.size()) };
        self.open_stages(peer)
    }

    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    fn open_stages(&mut self, peer: &SessionPeer<'_>) -> std::result::Result<(), (usize, Fault)> {
        let mut described = None;
        for index in self.opened..self.stages.list.len() {
            let stage = &self.stages.list[index];
            let Some(open) = stage.instance.table.fields.session_open else {
                self.opened = index + 1;
                continue;
            };
            let _guard = stage.instance.guard().map_err(|fault| (index, fault))?;
            let [local, remote, listener] = described.get_or_insert_with(|| {
                [peer.local.to_owned(), peer.peer.to_string(), peer.listener.to_owned()]
                    .map(|text| CString::new(text).unwrap_or_default())
            });
            let described = resay_peer {
                struct_size: size_of::<resay_peer>() as u32,
                kind: peer.kind,
                id: peer.id,
                local: local.as_ptr(),
                peer: remote.as_ptr(),
                listener: listener.as_ptr(),
            };
            let mut text = ErrorText::new();
            // SAFETY: the stage's own part of this session's memory, and pointers that live during the call.
            let status =
                unsafe { open(stage.instance.own, self.part(stage), &described, &mut text.as_abi()) };
            match stage.instance.check(status) {
                Status::Ok => self.opened = index + 1,
                Status::Failed(fault) => {
                    return Err((index, Fault::Refused(text.or(&fault.to_string()))));
                }
                _ => return Err((index, Fault::Refused(text.or("no reason given")))),
            }
        }
        Ok(())
    }

    fn close_stages(&mut self) {
        while let Some(index) = self.opened.checked_sub(1) {
            self.opened = index;
            let stage = &self.stages.list[index];
            if let Some(close) = stage.instance.table.fields.session_close {
                let _guard = stage.instance.serial.as_ref().map(lock);
                // SAFETY: this stage saw session_open with the same memory, and sees nothing after this.
                unsafe { close(stage.instance.own, self.part(stage)) }
            }
        }
    }

    fn part(&self, stage: &Stage) -> *mut c_void {
        // SAFETY: the offset lies within the layout that the memory has.
        unsafe { self.memory.as_ptr().add(stage.offset) }.cast()
    }

    /// Calls `map` of a stage that has it, in place.
    pub(crate) fn map(&mut self, stage: usize, data: &mut [u8]) -> Status {
        let stage = &self.stages.list[stage];
        let Some(map) = stage.instance.table.fields.map else {
            return Status::Failed(Fault::Status(abi::RESAY_E_UNSUPPORTED));
        };
        let _guard = match stage.instance.guard() {
            Ok(guard) => guard,
            Err(fault) => return Status::Failed(fault),
        };
        // SAFETY: the stage's own session memory, and a writable slice for the call.
        let status = unsafe { map(stage.instance.own, self.part(stage), data.as_mut_ptr(), data.len()) };
        match stage.instance.check(status) {
            Status::MoreOut | Status::MoreIn => Status::Failed(Fault::Broken("MORE_OUT or MORE_IN from map")),
            status => status,
        }
    }

    /// Calls `process` of a stage until it has taken all of `input` or wants more (`MoreIn`); what it gives is
    /// appended to `out`, at most `out_max` bytes, and `delayed` hears for each call where its output ends in
    /// `out` and for how many microseconds it is to be held back. Answers how much of the input was taken.
    pub(crate) fn process(
        &mut self,
        stage: usize,
        input: &[u8],
        out: &mut Vec<u8>,
        out_max: usize,
        flags: u32,
        mut delayed: impl FnMut(usize, u64),
    ) -> (Status, usize) {
        let stage = &self.stages.list[stage];
        let instance = &*stage.instance;
        let Some(process) = instance.table.fields.process else {
            return (Status::Failed(Fault::Status(abi::RESAY_E_UNSUPPORTED)), 0);
        };
        let _guard = match instance.guard() {
            Ok(guard) => guard,
            Err(fault) => return (Status::Failed(fault), 0),
        };
        let base = out.len();
        let mut used = 0;
        let mut wanted = instance.output_bound(input.len()).unwrap_or(input.len().max(512));
        let mut begin = abi::RESAY_IO_BEGIN;
        loop {
            let broken = |what, used| (Status::Failed(Fault::Broken(what)), used);
            // The ABI promises initialised memory: the SDK makes a slice of it.
            let written = out.len();
            out.resize(written + wanted.max(1), 0);
            let spare = out.get_mut(written..).unwrap_or_default();
            let out_cap = spare.len();
            let mut io = resay_io {
                struct_size: size_of::<resay_io>() as u32,
                flags: flags & (begin | !abi::RESAY_IO_BEGIN),
                r#in: input[used..].as_ptr(),
                in_len: input.len() - used,
                in_used: 0,
                out: spare.as_mut_ptr(),
                out_cap,
                out_len: 0,
                out_need: 0,
                delay_us: 0,
            };
            // SAFETY: the input is readable and the output writable for the lengths given; the session's part is
            // this stage's.
            let code = unsafe { process(instance.own, self.part(stage), &mut io) };
            let status = instance.check(code);
            out.truncate(written + io.out_len.min(out_cap));
            if let Status::Failed(_) = status {
                return (status, used);
            }
            if io.out_len > out_cap {
                return broken("process wrote more than out_cap", used);
            }
            if io.in_used > input.len() - used {
                return broken("process used more than in_len", used);
            }
            delayed(out.len(), io.delay_us);
            used += io.in_used;
            if out.len() - base > out_max {
                return (Status::Failed(Fault::TooLong), used);
            }
            match status {
                Status::MoreOut => {
                    let progress = io.in_used > 0 || io.out_len > 0 || io.out_need > out_cap;
                    if !progress {
                        return broken("MORE_OUT without progress", used);
                    }
                    if io.out_need > out_max {
                        return (Status::Failed(Fault::TooLong), used);
                    }
                    wanted = io.out_need.max(wanted);
                    begin = 0;
                }
                Status::Ok if used < input.len() => return broken("OK with input left", used),
                Status::MoreIn if flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0 => {
                    return broken("MORE_IN at the end of a message or stream", used);
                }
                status => return (status, used),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close_stages();
        if self.stages.layout.size() > 0 {
            // SAFETY: allocated in `open` with this very layout.
            unsafe { alloc::dealloc(self.memory.as_ptr(), self.stages.layout) }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stages", &self.stages.list.len()).finish_non_exhaustive()
    }
}
