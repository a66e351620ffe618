//! Files and directories, with errors that name them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What is in a directory, by name.
pub(crate) fn files_in(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(about(directory))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(about(directory))?;
    paths.sort();
    Ok(paths)
}

/// Removes a directory with all that is in it, if it is there.
pub(crate) fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(about(directory)(error)),
        _ => Ok(()),
    }
}

/// An error's text, with the path before it.
pub(crate) fn about(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
