//! What all instances of one plugin file share: `init()` before the first, `shutdown()` after the last.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;

use resay_plugin::abi;

use super::running::controlling;
use super::status::Fault;
use super::text::ErrorText;
use crate::lock::lock;

/// A loaded plugin file. It is never unloaded, so neither is this.
#[derive(Debug)]
pub(crate) struct PluginLibrary {
    /// Without symbolic links.
    path: PathBuf,
    init: Option<unsafe extern "C" fn(*const std::ffi::c_char, *mut abi::resay_text) -> abi::resay_status>,
    shutdown: Option<unsafe extern "C" fn()>,
    /// How many instances there are. Locked during `init()` and `shutdown()`, so that they take turns.
    instances: Mutex<usize>,
}

/// Held by an instance of a library.
#[derive(Debug)]
pub(super) struct LibraryUse {
    library: &'static PluginLibrary,
    /// The transform.
    name: &'static CStr,
}

impl PluginLibrary {
    /// Of a library that stays loaded.
    pub(super) fn new(path: PathBuf, fields: &abi::resay_library) -> &'static PluginLibrary {
        let (init, shutdown) = (fields.init, fields.shutdown);
        Box::leak(Box::new(PluginLibrary { path, init, shutdown, instances: Mutex::default() }))
    }

    /// Before an instance is created.
    pub(super) fn enter(&'static self, name: &'static CStr) -> Result<LibraryUse, String> {
        let mut instances = lock(&self.instances);
        if *instances == 0
            && let Some(init) = self.init
        {
            let file = self.path.file_name().unwrap_or_default().to_string_lossy();
            let path = CString::new(self.path.as_os_str().as_bytes()).map_err(|_| "its path has a NUL")?;
            let mut text = ErrorText::new();
            // SAFETY: a function of a library that stays loaded; the pointers live during the call.
            let status = controlling(name, || unsafe { init(path.as_ptr(), &mut text.as_abi()) });
            if status != abi::RESAY_OK {
                return Err(format!("init of {file}: {}", text.or(&Fault::Status(status).to_string())));
            }
        }
        *instances += 1;
        Ok(LibraryUse { library: self, name })
    }
}

impl Drop for LibraryUse {
    fn drop(&mut self) {
        let mut instances = lock(&self.library.instances);
        *instances -= 1;
        if *instances == 0
            && let Some(shutdown) = self.library.shutdown
        {
            // SAFETY: a function of a library that stays loaded; no instance of it is left, and none is created
            // while the lock is held.
            controlling(self.name, || unsafe { shutdown() });
        }
    }
}
