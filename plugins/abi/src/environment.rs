//! Variables of the environment, for code that may run inside a program with more rights than its caller.

use std::ffi::{CStr, CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

unsafe extern "C" {
    /// secure_getenv(3)
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// The value of a variable; `None`: it is not set, or this process has more rights than whoever started it (a
/// set-user-ID, set-group-ID or capability program, `AT_SECURE` in getauxval(3)), so that its environment is not to be
/// trusted.
pub fn variable(name: &str) -> Option<OsString> {
    let name = CString::new(name).ok()?;
    // SAFETY: a name that is ended by NUL.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not NULL, so it is a string, which is read at once: as with every getenv(3), nobody may change the
    // environment meanwhile.
    let value = unsafe { CStr::from_ptr(value) };
    Some(OsString::from_vec(value.to_bytes().to_vec()))
}

/// The directory for temporary files: `TMPDIR` where that may be trusted, else /tmp.
pub fn temporary_directory() -> PathBuf {
    variable("TMPDIR").filter(|path| !path.is_empty()).map_or_else(|| "/tmp".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_the_callers_own_rights_reads_its_environment() {
        assert_eq!(variable("CARGO_PKG_NAME"), std::env::var_os("CARGO_PKG_NAME"));
        assert_eq!(variable("RESAY_NOT_SET_ANYWHERE"), None);
        assert_eq!(variable("no\0name"), None);
        assert_eq!(temporary_directory(), std::env::temp_dir());
    }
}
