//! What the caller chooses: how a plugin is checked, and which of its transforms.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How [`check`](crate::check()) runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckOptions {
    /// The options that create() gets, `--option key=value`. They go to the transform that is chosen; where
    /// none is, to the first.
    pub options: Vec<(String, String)>,
    /// Which transform of the library, `FILE#id`; `None`: every one, or the first where options are given.
    pub transform: Option<String>,
    /// Repeats a run; `None`: another one each time. The report says which it was.
    pub seed: Option<u64>,
    /// When a probe that has not ended is a hang.
    pub limit: Duration,
    /// How long a probe looks for new cases; slow transforms get fewer.
    pub budget: Duration,
    /// Whether to measure what a call costs.
    pub cost: bool,
    /// The arguments with which this program runs again for a probe. None are needed where `main()` calls
    /// [`child_main`](crate::child_main) first; a test program has no `main()` of its own and names a test that does.
    pub child_arguments: Vec<OsString>,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            options: Vec::new(),
            transform: None,
            seed: None,
            limit: Duration::from_secs(20),
            budget: Duration::from_millis(500),
            cost: true,
            child_arguments: Vec::new(),
        }
    }
}

/// `file#id`, unless there is a file of that very name.
pub(crate) fn split_id(file: &Path) -> (PathBuf, Option<String>) {
    let whole = (file.to_owned(), None);
    if file.exists() {
        return whole;
    }
    match file.to_str().and_then(|text| text.rsplit_once('#')) {
        Some((path, id)) => (PathBuf::from(path), Some(id.to_owned())),
        None => whole,
    }
}
