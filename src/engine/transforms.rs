//! Transforms that are added to an engine that is there already.

use std::path::Path;

use super::{Engine, lock};
use crate::error::Result;
use crate::transform::library::Transform;

impl Engine {
    /// The same as [`Builder::register`](super::Builder::register), at any time: chains that are set from now on find
    /// it. Fails where the engine has one of that name already.
    pub fn register(&self, transform: Transform) -> Result<()> {
        lock(&self.registry).register(transform.0)
    }

    /// Loads a plugin file; chains that are set from now on find its transforms by their names. Of a file that has
    /// changed since it was loaded they find what is in it now; chains that were set before keep what they have. How
    /// many transforms there are in it.
    ///
    /// Fails where the host has registered one of that name, and then adds none.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<usize> {
        lock(&self.registry).load_all(path.as_ref())
    }
}
