//! The transforms that there are, and those that are added to an engine that is there already.

use std::path::{Path, PathBuf};

use super::state::Engine;
use crate::error::{Error, Result, SpecError};
use crate::lock::lock;
use crate::transform::library::{Callee, OptionHelp, Transform};
use crate::transform::registry::{Registry, TransformOrigin};

impl Engine {
    /// The same as [`Builder::register`](super::Builder::register), at any time: chains that are set from now on find
    /// it. One that had that name before is replaced: chains that use it keep it, and it is dropped with the last one.
    pub fn register(&self, transform: Transform) {
        let replaced = lock(&self.registry).register(transform.0);
        // Outside the lock: the host may do something when its function is dropped.
        drop(replaced);
    }

    /// Removes a transform that was registered: chains that are set from now on do not find it. Chains that use it keep
    /// it, and it is dropped with the last one.
    pub fn unregister(&self, id: &str) -> Result<()> {
        let removed = lock(&self.registry).unregister(id);
        removed.map(drop).ok_or(Error::Handle("transform"))
    }

    /// Loads a plugin file; chains that are set from now on find its transforms by their names. Of a file that has
    /// changed since it was loaded they find what is in it now; chains that were set before keep what they have. How
    /// many transforms there are in it.
    ///
    /// Fails where the host has registered one of that name, and then adds none.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<usize> {
        lock(&self.registry).load_all(path.as_ref())
    }

    /// Adds a directory in which bare names of transforms are looked up, for chains that are set from now on: after those
    /// that were added before, before `RESAY_PLUGIN_PATH`. A relative one is taken from the directory that the process is in
    /// now. Fails if it is no directory.
    pub fn plugin_dir(&self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = directory.as_ref();
        if directory.as_os_str().is_empty() {
            return Err(SpecError::new("directory", "", 0, "the name of a directory is missing").into());
        }
        let found =
            std::path::absolute(directory).and_then(|path| match std::fs::metadata(&path)?.is_dir() {
                true => Ok(path),
                false => Err(std::io::Error::from_raw_os_error(libc::ENOTDIR)),
            });
        let what = || format!("plugin directory {}", directory.display());
        let path = found.map_err(|source| Error::System { what: what(), source })?;
        lock(&self.registry).add_directory(path);
        Ok(())
    }

    /// Every transform that a chain of this engine can name; beside them, why a file in a plugin directory is none. This loads
    /// the plugins in these directories.
    pub fn transforms(&self) -> (Vec<TransformInfo>, Vec<Error>) {
        let (found, errors) = lock(&self.registry).list();
        (found.iter().map(|(table, origin)| describe(table, origin.clone())).collect(), errors)
    }
}

/// A transform that a chain can name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformInfo {
    /// The name.
    pub id: String,
    /// Its version.
    pub version: String,
    /// One line about it.
    pub summary: String,
    /// Where it comes from.
    pub origin: TransformOrigin,
    /// Its promises: `RESAY_CAP_` bits.
    pub caps: u32,
    /// Its requirements: `RESAY_NEED_` bits.
    pub needs: u32,
    /// `RESAY_SHARED`, `RESAY_PER_WORKER` or `RESAY_SERIAL`.
    pub threading: u32,
    /// Its options.
    pub options: Vec<OptionHelp<'static>>,
}

/// Every transform that a bare name reaches, given these plugin directories before the usual ones; beside
/// them, why a file in one of the directories is none.
pub fn transforms(directories: &[PathBuf]) -> (Vec<TransformInfo>, Vec<Error>) {
    let (found, errors) = Registry::new(directories.to_vec()).list();
    (found.iter().map(|(table, origin)| describe(table, origin.clone())).collect(), errors)
}

fn describe(table: &Callee, origin: TransformOrigin) -> TransformInfo {
    TransformInfo {
        id: table.id().to_owned(),
        version: table.version().to_owned(),
        summary: table.summary().to_owned(),
        origin,
        caps: table.caps(),
        needs: table.needs(),
        threading: table.threading(),
        options: table.options(),
    }
}
