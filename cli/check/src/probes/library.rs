//! Of the file and the library: what it is, what it exports, what its entry says.

use super::Verdict;
use crate::child::{Request, step};
use crate::drive::{Breach, Kept};
use crate::elf;
use crate::info;
use crate::promise::Promise;
use crate::report::{Finding, Outcome};
use crate::table::Loaded;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const WRITABLE_BY_ALL: u32 = 0o002;

/// What can be seen without loading anything.
pub(crate) fn before_loading(file: &Path) -> Vec<Finding> {
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
    let metadata = fs::metadata(file).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.permissions().mode() & WRITABLE_BY_ALL != 0 {
        return Err("everyone may write to it, so anybody could replace it (chmod o-w)".to_owned());
    }
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
    Outcome::Fail(format!("it also exports {}: make them static, or hide them", others.join(", ")))
}

/// What linkers and the languages' runtimes put into every library.
fn is_linkers(name: &str) -> bool {
    const NAMES: &[&str] =
        &["_init", "_fini", "_edata", "_end", "__bss_start", "__bss_start__", "__end__", "_bss_end__"];
    NAMES.contains(&name) || name.starts_with("__rust") || name.starts_with("rust_eh_personality")
}

pub(crate) fn load(request: &Request) -> Kept<Verdict> {
    step("dlopen()");
    Loaded::open(&request.file).map(|_| Verdict::Held)
}

/// Reads everything that tables say, twice: it is constant.
pub(crate) fn describe(request: &Request) -> Kept<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    step("reading the tables");
    let once = info::data(&loaded)?;
    if once != info::data(&loaded)? {
        return Err(Breach::of(Promise::Table, "the tables change".to_owned()));
    }
    Ok(Verdict::Data(once))
}

/// Any revision, any number of times.
pub(crate) fn entry(request: &Request) -> Kept<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let current = resay_plugin::abi::RESAY_PLUGIN_ABI_MINOR;
    for minor in [0, 1, 2, 1000, u32::MAX, current] {
        step(format!("resay_plugin_v1({minor})"));
        // SAFETY: the entry takes any revision.
        let [one, two] = [(); 2].map(|()| unsafe { (loaded.entry)(minor) });
        if one != two {
            let what = format!("resay_plugin_v1({minor}) gave {one:p}, then {two:p}");
            return Err(Breach::of(Promise::Entry, what));
        }
        if one.is_null() && minor >= current {
            let what = format!("resay_plugin_v1({minor}) refused a revision that is not older than this one");
            return Err(Breach::of(Promise::Entry, what));
        }
    }
    Ok(Verdict::Held)
}
