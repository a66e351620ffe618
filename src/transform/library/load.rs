//! dlopen of a plugin file. A library is never closed: a table, once seen, stays valid.
//!
//! The dynamic linker gives the library that it has already if the path is the same, or if the file is (device and
//! inode). A file that has changed since it was loaded is therefore opened in another way:
//!
//! ```text
//! replaced by rename (mv, install): another inode    ─> the same file by another spelling of its path, /dir/.//lib.so
//! overwritten in place (cp): the same inode          ─> a copy in memory, memfd_create(2), as /proc/self/fd/N
//! ```
//!
//! Neither needs a directory to write to, and both find libraries beside the plugin: by the first spelling `$ORIGIN` is
//! the plugin's own directory, and for the copy they are opened [beforehand](super::beside). Without /proc only the second
//! case fails, and its error says what to do.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use resay_plugin::abi;
#[cfg(not(feature = "bundled"))]
use resay_plugin::abi::resay_transform;
use resay_plugin::inspect;

use super::beside;
use super::filter::FilterTable;
use super::lifecycle::PluginLibrary;
use super::table::Table;
use crate::error::plain;

/// How the reason begins when a library is no plugin at all.
pub(crate) const NO_ENTRY: &str = "has no resay_plugin_v1";

/// What is known of a file that is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was not loaded before.
    New,
    /// Another file has taken the place of one that was loaded.
    Replaced,
    /// It was loaded, and has been written to since.
    Overwritten,
}

/// What a library offers.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) transforms: Vec<Table>,
    pub(crate) filters: Vec<FilterTable>,
}

/// A library that stays loaded: what it offers, or why it cannot be used.
pub(crate) type Loaded = Result<Contents, String>;

/// The transforms that are linked into the engine.
pub(crate) fn bundled() -> Vec<Table> {
    #[cfg(feature = "bundled")]
    let tables = resay_transforms::ALL.map(|table| table.raw());
    #[cfg(not(feature = "bundled"))]
    let tables: [*const resay_transform; 0] = [];
    // SAFETY: statics of this program.
    tables.into_iter().filter_map(|raw| unsafe { Table::new(raw) }.ok()).collect()
}

/// Opens a plugin file that [`check`](resay_plugin::file::check) has accepted, and gives what it offers.
///
/// The path is used as it is: neither the dynamic linker's search path nor the working directory's libraries play
/// a part. All symbols are bound at once and stay local (`RTLD_NOW`, `RTLD_LOCAL`).
/// An error: nothing was loaded.
pub(crate) fn load(file: &Path, change: Change) -> Result<Loaded, String> {
    let library = match change {
        Change::New => open(file),
        Change::Replaced => open(&respelled(file)),
        Change::Overwritten => open_copy(file),
    }?;
    // SAFETY: the one symbol of the ABI has this type.
    let entry = unsafe { library.get::<abi::resay_plugin_entry>(c"resay_plugin_v1") }
        .map(|symbol| *symbol)
        .map_err(|_| format!("{NO_ENTRY}: not a Resay plugin, or of another ABI major"))?;
    // From here on something of the library may be in use: it is never closed.
    std::mem::forget(library);
    // SAFETY: the entry is pure and takes any minor version.
    let described = unsafe { entry(abi::RESAY_PLUGIN_ABI_MINOR) };
    if described.is_null() {
        return Ok(Err("does not support this engine (resay_plugin_v1 answered NULL)".to_owned()));
    }
    // SAFETY: what the entry of a library returned that stays loaded.
    Ok(unsafe { inspect::library(described) }.map(|described| {
        let library = PluginLibrary::new(file.to_owned(), &described.fields);
        let table = |transform| Table::from(transform).of_library(library);
        let filter = |filter| FilterTable::new(filter, Some(library));
        Contents {
            transforms: described.transforms.into_iter().map(table).collect(),
            filters: described.filters.into_iter().map(filter).collect(),
        }
    }))
}

fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: running a library's initialisers is what loading a plugin means; the user named this file.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| without(path, innermost(&error)))
}

/// Opens a copy of the file that is in memory only, and in which nobody can write.
fn open_copy(file: &Path) -> Result<Library, String> {
    let advice = |what: &str, error: &str| {
        format!(
            "was written to while it was loaded, so only a copy of it can be loaded again, and {what} fails ({error}): \
             replace a plugin by rename (mv, install), or give the new one another name"
        )
    };
    let copy = copy_to_memory(file).map_err(|error| advice("memfd_create", &plain(&error)))?;
    // What the copy needs from beside the file stays open with it.
    let beside = beside::needed(file).unwrap_or_default();
    let beside: Vec<Library> = beside.iter().filter_map(|needed| open(needed).ok()).collect();
    let path = format!("/proc/self/fd/{}{}", spelling(), copy.as_raw_fd());
    let library = open(Path::new(&path)).map_err(|error| {
        if Path::new("/proc/self/fd").is_dir() { error } else { advice("opening it in /proc", &error) }
    })?;
    std::mem::forget(beside);
    Ok(library)
}

fn copy_to_memory(file: &Path) -> io::Result<File> {
    /// The file may be executed, where the system refuses it else (vm.memfd_noexec). Linux 6.3.
    const MFD_EXEC: libc::c_uint = 0x10;
    let name = file.file_name().unwrap_or_default().as_bytes();
    // It is only shown, in /proc/self/maps; up to 249 bytes are taken.
    let name = CString::new(name.get(..name.len().min(200)).unwrap_or_default()).unwrap_or_default();
    let create = |flags| {
        // SAFETY: a NUL-terminated name.
        let fd =
            unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, and nobody else's.
        Ok(unsafe { File::from_raw_fd(fd) })
    };
    let mut copy = match create(MFD_EXEC) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => create(0)?,
        result => result?,
    };
    io::copy(&mut File::open(file)?, &mut copy)?;
    // SAFETY: a descriptor of ours. Where it cannot be sealed, nobody else has it anyhow.
    unsafe {
        libc::fcntl(
            copy.as_raw_fd(),
            libc::F_ADD_SEALS,
            libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL,
        );
    }
    Ok(copy)
}

/// The same file by a path that was not used before.
fn respelled(file: &Path) -> PathBuf {
    let mut path = file.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
    path.push("/");
    path.push(spelling());
    path.push(file.file_name().unwrap_or_default());
    PathBuf::from(path)
}

/// A part of a path that changes nothing and is another one each time: a number whose digits are `./` and `/`.
fn spelling() -> String {
    static SPELLINGS: AtomicU64 = AtomicU64::new(1);
    let number = SPELLINGS.fetch_add(1, Ordering::Relaxed);
    let bits = (0..u64::BITS - number.leading_zeros()).rev();
    bits.map(|bit| if number >> bit & 1 == 1 { "./" } else { "/" }).collect()
}

/// A message without the file that it begins with: whoever reads it is told which one it is.
fn without(file: &Path, message: String) -> String {
    let rest =
        file.to_str().and_then(|file| message.strip_prefix(file)).and_then(|rest| rest.strip_prefix(": "));
    rest.map_or_else(|| message.clone(), str::to_owned)
}

/// The dynamic linker's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn spellings_differ_and_lead_to_the_same_file() {
        let file = std::env::current_exe().unwrap();
        let spelled: BTreeSet<_> = (0..100).map(|_| respelled(&file).into_os_string()).collect();
        assert_eq!(spelled.len(), 100);
        for path in spelled {
            assert_eq!(Path::new(&path).canonicalize().unwrap(), file.canonicalize().unwrap());
        }
    }
}
