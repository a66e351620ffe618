//! dlopen of a plugin file. A library is never closed: a table, once seen, stays valid.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
#[cfg(not(feature = "bundled"))]
use resay_plugin::abi::resay_transform;
use resay_plugin::abi::{self, resay_library};
use resay_plugin::inspect;

use super::table::Table;
use crate::error::{Error, Result};

/// The transforms that are linked into the engine.
pub(crate) fn bundled() -> Vec<Table> {
    #[cfg(feature = "bundled")]
    let tables = resay_transforms::ALL.map(|table| table.raw());
    #[cfg(not(feature = "bundled"))]
    let tables: [*const resay_transform; 0] = [];
    // SAFETY: statics of this program.
    tables.into_iter().filter_map(|raw| unsafe { Table::new(raw) }.ok()).collect()
}

/// Opens a plugin file and gives its transforms.
///
/// The path is used as it is: neither the dynamic linker's search path nor the working directory's libraries play
/// a part. All symbols are bound at once and stay local (`RTLD_NOW`, `RTLD_LOCAL`).
///
/// `private`: from a copy, for a file that has changed since it was loaded; the same path would give the old library.
pub(crate) fn load(path: &Path, private: bool) -> Result<Vec<Table>> {
    let fault = |reason: String| Error::Plugin { path: path.to_owned(), reason };
    let file = fs::canonicalize(path).map_err(|error| fault(error.to_string()))?;
    let metadata = fs::metadata(&file).map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fault("is not a file".into()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(fault("is writable by everyone, so anybody could replace it (chmod o-w)".into()));
    }
    let copy =
        if private { Some(PrivateCopy::of(&file).map_err(|error| fault(error.to_string()))?) } else { None };
    let file = copy.as_ref().map_or(file.as_path(), |copy| &copy.file);
    if !is_complete(file).map_err(|error| fault(error.to_string()))? {
        return Err(fault("is truncated".into()));
    }
    // SAFETY: running a library's initialisers is what loading a plugin means; the user named this file.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| fault(innermost(&error)))?;
    // SAFETY: the one symbol of the ABI has this type.
    let entry = unsafe { library.get::<abi::resay_plugin_entry>(c"resay_plugin_v1") }
        .map(|symbol| *symbol)
        .map_err(|_| fault(format!("{NO_ENTRY}: not a Resay plugin, or of another ABI major")))?;
    // From here on something of the library may be in use: it is never closed.
    std::mem::forget(library);
    // SAFETY: the entry is pure and takes any minor version.
    let described = unsafe { entry(abi::RESAY_PLUGIN_ABI_MINOR) };
    if described.is_null() {
        return Err(fault("does not support this engine (resay_plugin_v1 answered NULL)".into()));
    }
    let bytes_min = offset_of!(resay_library, transforms) + size_of::<usize>();
    // SAFETY: a resay_library is at least its struct_size, which covers the list; the library stays loaded.
    let transforms = unsafe {
        let described = inspect::read("resay_library", described, bytes_min).map_err(fault)?;
        inspect::tables(&described).map_err(fault)?
    };
    let mut tables: Vec<Table> = Vec::with_capacity(transforms.len());
    for &raw in transforms {
        // SAFETY: a table of a library that is never closed.
        let table = unsafe { Table::new(raw) }.map_err(fault)?;
        if tables.iter().any(|other| other.id() == table.id()) {
            return Err(fault(format!("offers {} twice", table.id())));
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

/// Whether the file is as long as its program headers say (elf(5)). The dynamic linker maps what they say, and
/// touching a page behind the end of the file is a SIGBUS. What is no ELF file of this machine is left for the
/// linker to refuse.
fn is_complete(file: &Path) -> io::Result<bool> {
    const LOAD: u32 = 1;
    let file = fs::File::open(file)?;
    let bytes = file.metadata()?.len();
    let mut header = [0; 64];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(!header.starts_with(b"\x7fELF"));
        }
        result => result?,
    }
    let is_64_bit_of_our_order =
        header[4] == 2 && header[5] == if cfg!(target_endian = "little") { 1 } else { 2 };
    if !header.starts_with(b"\x7fELF") || !is_64_bit_of_our_order {
        return Ok(true);
    }
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut value = [0u8; 8];
        if cfg!(target_endian = "little") {
            value[..len].copy_from_slice(&bytes[at..at + len]);
        } else {
            value[8 - len..].copy_from_slice(&bytes[at..at + len]);
        }
        u64::from_ne_bytes(value)
    };
    let (first, size, count) = (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    if size != 56 {
        return Ok(true);
    }
    for index in 0..count {
        let mut program = [0; 56];
        let Some(at) = first.checked_add(index * size) else { return Ok(false) };
        match file.read_exact_at(&mut program, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        let end = number(&program, 8, 8).checked_add(number(&program, 32, 8));
        if number(&program, 0, 4) == u64::from(LOAD) && end.is_none_or(|end| end > bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How the reason begins when a library is no plugin at all.
pub(crate) const NO_ENTRY: &str = "has no resay_plugin_v1";

/// A copy of a library in a directory that only this user can enter. It can go as soon as it is mapped.
struct PrivateCopy {
    directory: PathBuf,
    file: PathBuf,
}

impl PrivateCopy {
    fn of(library: &Path) -> io::Result<PrivateCopy> {
        static COPIES: AtomicU64 = AtomicU64::new(0);
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("resay-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let copy = PrivateCopy { file: directory.join("plugin.so"), directory };
        fs::copy(library, &copy.file)?;
        Ok(copy)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
        let _ = fs::remove_dir(&self.directory);
    }
}
