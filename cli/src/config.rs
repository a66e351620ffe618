//! The configuration file of `resay serve --config`: what it says, checked, with the place of each fault.
//!
//! ```text
//! text ── toml ──> values with places ── `read` ──> Config ── `snapshot` ──> what `--diff` and a reload compare
//!                                   ├──> faults: FILE:LINE:COLUMN, the line, a caret
//!                                   └── `check`: chains, plugins, certificates ──> faults
//! ```
//!
//! The options of listeners are those of [`resay::options::KEYS`]: a new one is an option of the file at once, and in its
//! schema. What the keys above the tables do is said in `read`: for a new one of `ENGINE_KEYS` too.

mod check;
mod clash;
pub(crate) mod command;
pub(crate) mod place;
pub(crate) mod read;
mod schema;
pub(crate) mod settings;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
mod types;
