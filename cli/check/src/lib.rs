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
//! The files, from the bottom up; each imports only what is above it in this list:
//! - `promise` lists what is promised, `words` names numbers, `elf` reads the symbols of a file that is not loaded.
//! - `verdict` and `report` say what was found, `cost` what a call costs, `options` what the caller chose.
//! - `shared` is the file between parent and child, `request` what goes through it.
//! - `guarded` is memory between unmapped pages, `host` the host that instances live in, `table` reads tables.
//! - `instruction` tells atomic writes from others, `watch` finds the writes to a library's global variables.
//! - `child` notes progress and faults; `parent` starts a child and makes a finding of how it ended.
//! - `rng` makes input, `mode` says how it arrives, `drive` calls a transform and checks each reply, `plan` sends
//!   whole sessions and compares them, `fixture` has all of that ready for a probe.
//! - `probes` are the checks by theme; `file` checks what can be seen without loading, `in_use` who else has loaded it;
//!   `info` holds what tables declare.
//! - `runner` runs probes and answers them, `describe` describes a file, `new` makes a project.
//!
//! Unsafe code is in `guarded`, `child`, `drive`, `host`, `shared`, `table`, `watch`, `words`, `probes::library`,
//! `probes::life`, `probes::races` and `probes::cost`: they call a plugin, or the system.

mod child;
mod cost;
mod describe;
mod drive;
mod elf;
mod file;
mod fixture;
mod guarded;
mod host;
mod in_use;
mod info;
#[cfg(target_arch = "x86_64")]
mod instruction;
mod mode;
mod new;
mod options;
mod parent;
mod plan;
mod probes;
mod promise;
mod report;
mod request;
mod rng;
mod runner;
mod shared;
mod table;
mod verdict;
#[cfg(target_arch = "x86_64")]
mod watch;
mod words;

use std::path::Path;

pub use cost::Cost;
pub use describe::{InfoError, info};
pub use info::{FilterDescription, Info, OptionInfo, TransformDescription, contract_rows};
pub use new::{Lang, new};
pub use options::CheckOptions;
pub use promise::Promise;
pub use report::{Finding, Hint, Outcome, Report};
pub use runner::child_main;

/// Runs every probe on a plugin file, `libflip.so` or `libflip.so#id`.
pub fn check(file: &Path, options: &CheckOptions) -> Report {
    let (file, id) = options::split_id(file);
    let mut options = options.clone();
    options.transform = options.transform.or(id);
    runner::run(&file, &options)
}
