//! Is a plugin what it promises to be? What `resay plugin check`, `resay plugin info` and `resay plugin new` do.
//!
//! A plugin is somebody else's machine code, so whoever asks about it must survive it: every question is put in
//! a child process, a *probe*, that is this very program run again. A crash, a hang or an exit ends the child and
//! becomes a finding that names the promise which was broken.
//!
//! ```text
//! check() ── writes a request ──> [ shared file ] ──> child_main(): dlopen, one probe
//!    ^                                  |
//!    └──── outcome, last step, fault ───┘   and how the child ended
//! ```
//!
//! So a program that calls [`check()`] or [`info()`] calls [`child_main`] first thing in `main()`:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = resay_check::child_main() {
//!         return code;
//!     }
//!     let report = resay_check::check("./libflip.so".as_ref(), &resay_check::CheckOptions::default());
//!     print!("{report}");
//!     ExitCode::from(report.exit_status())
//! }
//! ```
//!
//! The map:
//! - `promise` lists what is promised, `report` says what was found.
//! - `child` runs probes in children; `shared` is the file between the two.
//! - `probes` are the questions, by theme: `library`, `create`, `structs`, `life`, `memory`, `promises`, `stream`,
//!   `sessions`, `state`, `fuzz`; `cost` measures.
//! - `table` reads tables, `drive` calls them by the rules of the header and checks what comes back; `arena` is
//!   memory with unmapped pages on both sides, `plan` what is sent, `words` how things are called.
//! - `elf` reads symbols from a file that nobody should load yet.
//! - `info` describes, `new` begins a project.
//!
//! Unsafe code stands in `arena`, `child`, `drive`, `host`, `shared`, `table`, `words`, `probes::library`,
//! `probes::life` and `cost`: they call a plugin, or the system.

mod arena;
mod child;
mod cost;
mod drive;
mod elf;
mod host;
mod info;
mod new;
mod plan;
mod probes;
mod promise;
mod report;
mod shared;
mod table;
mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use child::child_main;
pub use cost::Cost;
pub use info::{Info, InfoError, OptionInfo, TransformDescription, info};
pub use new::{DEPENDENCY, Lang, new};
pub use promise::Promise;
pub use report::{Finding, Outcome, Report};

/// How [`check`] goes about it.
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
    /// [`child_main`] first; a test program has no `main()` of its own and names a test that does.
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

/// Puts every question to a plugin file, `libflip.so` or `libflip.so#id`, and reports the answers.
pub fn check(file: &Path, options: &CheckOptions) -> Report {
    let (file, id) = split_id(file);
    let mut options = options.clone();
    options.transform = options.transform.or(id);
    probes::run(&file, &options)
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
