//! What can be checked of a plugin file without loading it.

use crate::elf;
use crate::promise::Promise;
use crate::report::{Finding, Outcome};
use std::fs;
use std::path::Path;

/// Checks the file and its exported symbols.
pub(crate) fn check(file: &Path) -> Vec<Finding> {
    let finding = |probe, promise, outcome| Finding {
        transform: String::new(),
        probe,
        promise,
        outcome,
        details: Vec::new(),
    };
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(what) => return vec![finding("file", Promise::File, Outcome::Fail(what))],
    };
    let (of_file, of_exports) = match elf::exports(&bytes) {
        Ok(Some(names)) => (Outcome::Pass, exports(&names)),
        Ok(None) => (Outcome::Pass, Outcome::Skip("the symbols of this format are not read".to_owned())),
        Err(what) => (Outcome::Fail(what), Outcome::Skip("'file' failed".to_owned())),
    };
    vec![finding("file", Promise::File, of_file), finding("exports", Promise::Exports, of_exports)]
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let file = resay_plugin::file::check(file)?;
    fs::read(file).map_err(|error| error.to_string())
}

fn exports(names: &[String]) -> Outcome {
    let others: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "resay_plugin_v1" && !is_linkers(name))
        .collect();
    if !names.iter().any(|name| name == "resay_plugin_v1") {
        return Outcome::Fail("there is no resay_plugin_v1: no plugin, or of another ABI major".to_owned());
    }
    if others.is_empty() {
        return Outcome::Pass;
    }
    const SHOWN_MAX: usize = 8;
    let more = others.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = others.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    Outcome::Fail(format!(
        "it also exports {shown}{more}: make them static, hide them (-fvisibility=hidden), or link with a version script"
    ))
}

/// What linkers and the languages' runtimes put into every library.
fn is_linkers(name: &str) -> bool {
    const NAMES: &[&str] =
        &["_init", "_fini", "_edata", "_end", "__bss_start", "__bss_start__", "__end__", "_bss_end__"];
    NAMES.contains(&name) || name.starts_with("__rust") || name.starts_with("rust_eh_personality")
}
