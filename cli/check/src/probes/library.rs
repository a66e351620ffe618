//! Probes of the library: whether it loads, and what its entry returns.

use crate::child::step;
use crate::info;
use crate::promise::Promise;
use crate::request::Request;
use crate::table::Loaded;
use crate::verdict::{Check, Verdict, Violation};

pub(crate) fn load(request: &Request) -> Check<Verdict> {
    step("dlopen()");
    Loaded::open(&request.file).map(|_| Verdict::Passed)
}

/// Reads everything that tables say, twice: it is constant.
pub(crate) fn describe(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    step("reading the tables");
    let once = info::data(&loaded)?;
    if once != info::data(&loaded)? {
        return Err(Violation::of(Promise::Table, "the tables differ when they are read again".to_owned()));
    }
    Ok(Verdict::Data(once))
}

/// Any revision, any number of times.
pub(crate) fn entry(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let current = resay_plugin::abi::RESAY_PLUGIN_ABI_MINOR;
    for minor in [0, 1, 2, 1000, u32::MAX, current] {
        step(format!("resay_plugin_v1({minor})"));
        // SAFETY: the entry takes any revision.
        let [one, two] = [(); 2].map(|()| unsafe { (loaded.entry)(minor) });
        if one != two {
            let what = format!("resay_plugin_v1({minor}) returned two different pointers");
            return Err(Violation::of(Promise::Entry, what));
        }
        if one.is_null() && minor >= current {
            let what = format!("resay_plugin_v1({minor}) refused a revision that is not older than this one");
            return Err(Violation::of(Promise::Entry, what));
        }
    }
    Ok(Verdict::Passed)
}
