//! The committed C headers are what the code generates.
//!
//! After a change of the interface: `RESAY_BLESS=1 cargo test --test headers`.

#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers.

use std::fs;
use std::path::Path;

fn compare(name: &str) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("include").join(name);
    let generated = fs::read_to_string(Path::new(env!("OUT_DIR")).join(name)).unwrap();
    if std::env::var_os("RESAY_BLESS").is_some() {
        fs::write(&committed, &generated).unwrap();
    }
    let found = fs::read_to_string(&committed).unwrap_or_default();
    if let Some((line, (found, generated))) =
        (1..).zip(found.lines().zip(generated.lines())).find(|(_, (found, generated))| found != generated)
    {
        panic!(
            "include/{name}:{line} is {found:?}, the code says {generated:?}; RESAY_BLESS=1 writes it anew"
        );
    }
    assert_eq!(found, generated, "include/{name} ends early or late; RESAY_BLESS=1 writes it anew");
}

#[test]
fn resay_h_is_up_to_date() {
    compare("resay.h");
}

#[test]
fn resay_plugin_h_is_up_to_date() {
    compare("resay_plugin.h");
}
