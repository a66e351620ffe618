//! Where the engine itself is.

use std::env;
use std::ffi::{CStr, OsStr, c_void};
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The shared library that this engine is in, for example libresay.so.1.0.0 after all symbolic links; `None` where
/// the engine is a part of the program itself (dladdr(3)).
pub(crate) fn own_library() -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let address = own_library as fn() -> Option<PathBuf> as *const c_void;
    // SAFETY: any address may be asked for, and `info` is writable.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: filled in by a call that succeeded; all zeroes are a Dl_info too.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: the dynamic linker's own text about an object that is not unloaded while it runs this.
    let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()));
    // A relative name depends on the directory in which the program began, which is not known any more.
    if !name.is_absolute() {
        return None;
    }
    let library = fs::canonicalize(name).ok()?;
    // Of the program the name is the one that it was called by.
    (env::current_exe().ok().as_ref() != Some(&library)).then_some(library)
}
