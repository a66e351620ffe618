//! A created transform.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use resay_plugin::abi::{self, resay_kv, resay_transform};

use super::callee::Callee;
use super::host::{Host, Services};
use super::lifecycle::LibraryUse;
use super::running::{controlling, running};
use super::status::{Fault, Status};
use super::table::{OptionHelp, SessionState};
use super::text::ErrorText;
use super::times::Times;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::sys;
use crate::values::nearest;

/// A transform that has been created. Destroyed when the last user is gone.
pub(crate) struct Instance {
    pub(super) callee: Callee,
    name: &'static CStr,
    pub(super) own: *mut c_void,
    /// Set by a panic in the plugin: nothing is sent through it any more.
    quarantined: AtomicBool,
    /// Neither that nor a lock nor a call to be timed: [`guard`](Instance::guard) has nothing to say.
    is_unguarded: AtomicBool,
    /// How its sessions are carried to another instance.
    pub(super) session_state: Option<SessionState>,
    /// For `RESAY_SERIAL`.
    pub(super) serial: Option<Mutex<()>>,
    /// The next call is to be timed.
    is_armed: AtomicBool,
    times: Arc<Times>,
    _host: Host,
    /// Let go of after `destroy()`.
    _library: Option<LibraryUse>,
}

// SAFETY: `own` is the plugin's; the table's threading says from where it may be called, and `Stages` keeps to it.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Creates an instance. Options that the transform does not declare are refused here, with what it offers.
    pub(crate) fn create(
        callee: Callee,
        options: &[(String, Vec<u8>)],
        services: &Services,
    ) -> Result<Instance> {
        let (id, name) = (callee.id(), callee.name());
        let fault = |reason: String| Error::Transform { id: id.to_owned(), reason, place: None };
        let declared = callee.options();
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
        let library = callee.library().map(|library| library.enter(name)).transpose().map_err(fault)?;
        let callee = controlling(name, || callee.select(&pairs)).map_err(fault)?;
        let session_state = controlling(name, || callee.session_state()).map_err(fault)?;
        let host = Host::new(id, services);
        let mut own = ptr::null_mut();
        let mut threading = abi::RESAY_SHARED;
        if let Callee::Table(table) = &callee {
            threading = table.threading();
        }
        if let Callee::Table(table) = &callee
            && let Some(create) = table.fields().create
        {
            let mut text = ErrorText::new();
            // SAFETY: every pointer lives during the call, `host` until destroy().
            let status = controlling(name, || unsafe {
                create(table.raw(), host.as_ptr(), pairs.as_ptr(), pairs.len(), &mut own, &mut text.as_abi())
            });
            if status != abi::RESAY_OK {
                return Err(fault(text.or(&format!("create: {}", Fault::Status(status)))));
            }
        }
        // A worker's own instance is entered by other threads too: by those for transforms that may block, and by the
        // one that closes the sessions of a chain that was replaced.
        let is_serial = threading != abi::RESAY_SHARED;
        let serial = is_serial.then(Mutex::default);
        let (quarantined, is_unguarded) = (AtomicBool::new(false), AtomicBool::new(!is_serial));
        Ok(Instance {
            callee,
            name,
            own,
            quarantined,
            is_unguarded,
            session_state,
            serial,
            is_armed: AtomicBool::new(false),
            times: services.times.of(id),
            _host: host,
            _library: library,
        })
    }

    pub(crate) fn id(&self) -> &'static str {
        self.callee.id()
    }

    pub(crate) fn needs_messages(&self) -> bool {
        self.callee.needs_messages()
    }

    /// The table, if it is one.
    pub(super) fn fields(&self) -> Option<&resay_transform> {
        match &self.callee {
            Callee::Table(table) => Some(table.fields()),
            Callee::Function(_) => None,
        }
    }

    /// Whether it works in place: the length stays, no other memory is needed.
    pub(crate) fn is_map(&self) -> bool {
        self.fields().is_some_and(|fields| fields.map.is_some())
    }

    /// Whether it is a function of the host's: see [`Session::call`](super::Session::call).
    pub(crate) fn is_function(&self) -> bool {
        matches!(self.callee, Callee::Function(_))
    }

    /// Whether it may say something when a connection opens. Only `process` and functions can.
    pub(crate) fn greets(&self) -> bool {
        match self.fields() {
            Some(fields) => fields.caps & abi::RESAY_CAP_GREETS != 0 && fields.process.is_some(),
            None => self.has_session(),
        }
    }

    /// Whether it wants to hear of conversations, or remembers something of them.
    pub(crate) fn has_session(&self) -> bool {
        match &self.callee {
            Callee::Table(table) => {
                let fields = table.fields();
                fields.session_size > 0 || fields.session_open.is_some() || fields.session_close.is_some()
            }
            Callee::Function(function) => function.layout().is_some(),
        }
    }

    pub(crate) fn is_offloaded(&self) -> bool {
        self.callee.is_offloaded()
    }

    /// Calls into the plugin, known to [`running_transform`](super::running_transform) meanwhile.
    #[inline(always)]
    pub(super) fn enter<R>(&self, call: impl FnOnce() -> R) -> R {
        running(self.name, call)
    }

    /// The declared bound of the output for `len` bytes of input; `None` where there is none.
    pub(super) fn output_bound(&self, len: usize) -> Option<usize> {
        let fields = self.fields()?;
        match fields.out_div {
            0 => None,
            div => len
                .checked_mul(fields.out_mul as usize)
                .map(|n| n.div_ceil(div as usize).saturating_add(fields.out_add as usize)),
        }
    }

    pub(super) fn check(&self, status: i32) -> Status {
        let status = Status::from_code(status);
        if matches!(status, Status::Failed(Fault::Status(abi::RESAY_E_PANIC))) {
            self.quarantine();
        }
        status
    }

    /// Remembers the panic of a function.
    #[cold]
    pub(super) fn note(&self, fault: &Fault) {
        if *fault == Fault::Status(abi::RESAY_E_PANIC) {
            self.quarantine();
        }
    }

    /// The same for `map`, which has no more to ask for.
    pub(super) fn check_map(&self, status: i32) -> Status {
        match self.check(status) {
            Status::MoreOut | Status::MoreIn => Status::Failed(Fault::Broken("MORE_OUT or MORE_IN from map")),
            status => status,
        }
    }

    #[cold]
    fn quarantine(&self) {
        // In this order, and seen in it: see `disarm`.
        self.quarantined.store(true, Ordering::SeqCst);
        self.is_unguarded.store(false, Ordering::SeqCst);
    }

    /// The next call for a message is to be timed.
    pub(super) fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
        self.is_unguarded.store(false, Ordering::SeqCst);
    }

    /// If another thread arms it meanwhile, the call that is to be timed may be none until it is armed again.
    fn disarm(&self) {
        if self.serial.is_none() {
            self.is_unguarded.store(true, Ordering::SeqCst);
            // What another thread has found meanwhile holds.
            if self.quarantined.load(Ordering::SeqCst) {
                self.is_unguarded.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Whether a call needs no [`guard`](Instance::guard), as most do.
    #[inline]
    pub(super) fn is_unguarded(&self) -> bool {
        self.is_unguarded.load(Ordering::Relaxed)
    }

    /// The [`guard`](Instance::guard) of a call for a message.
    #[inline]
    pub(super) fn guard_of_message(&self) -> std::result::Result<Guard<'_>, Fault> {
        if self.is_unguarded() {
            return Ok(Guard { _lock: None, timed: None });
        }
        self.guard_in_full()
    }

    #[inline(never)]
    fn guard_in_full(&self) -> std::result::Result<Guard<'_>, Fault> {
        let lock = self.guard()?;
        let is_timed = self.is_armed.swap(false, Ordering::SeqCst);
        if is_timed {
            self.disarm();
        }
        // Waiting for the lock is not the transform's.
        let timed = is_timed.then(|| (&*self.times, sys::monotonic_nanos()));
        Ok(Guard { _lock: lock, timed })
    }

    #[inline]
    pub(super) fn guard(&self) -> std::result::Result<Option<MutexGuard<'_, ()>>, Fault> {
        if self.quarantined.load(Ordering::Relaxed) {
            return Err(Fault::Quarantined);
        }
        Ok(self.serial.as_ref().map(lock))
    }
}

/// Held during a call for a message.
pub(super) struct Guard<'a> {
    _lock: Option<MutexGuard<'a, ()>>,
    /// Where its time goes, and when it began.
    timed: Option<(&'a Times, u64)>,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((times, began_ns)) = self.timed {
            times.add_since(began_ns);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.fields().and_then(|fields| fields.destroy) {
            // SAFETY: what create() gave, once, after the last call that could use it.
            controlling(self.name, || unsafe { destroy(self.own) });
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.id())
    }
}

pub(super) fn unknown_option(key: &str, declared: &[OptionHelp<'_>]) -> String {
    if declared.is_empty() {
        return format!("unknown option {key:?}: it has none");
    }
    let mut text = match nearest(key, declared.iter().map(|option| option.key)) {
        Some(meant) => format!("unknown option {key:?}, did you mean {meant:?}? It has"),
        None => format!("unknown option {key:?}; it has"),
    };
    for option in declared {
        text += &format!(" {}=<{}> ({}", option.key, option.kind, option.help);
        if let Some(fallback) = option.fallback.filter(|fallback| !fallback.is_empty()) {
            text += &format!("; default {fallback}");
        }
        text += "),";
    }
    text.pop();
    text
}
