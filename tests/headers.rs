//! The committed C headers are what the code generates.
//!
//! After a change of the interface: `RESAY_BLESS=1 cargo test --test headers`.

#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Here and not in the build script, where everybody who builds Resay would have to build cbindgen first.
fn generate(config: &str, source: &str) -> String {
    let (config, source): (PathBuf, PathBuf) = (root().join(config), root().join(source));
    let config =
        cbindgen::Config::from_file(&config).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(&source)
        .generate()
        .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let mut header = Vec::new();
    bindings.write(&mut header);
    String::from_utf8(header).unwrap()
}

fn compare(name: &str, generated: &str) {
    let committed = root().join("include").join(name);
    if std::env::var_os("RESAY_BLESS").is_some() {
        fs::write(&committed, generated).unwrap();
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
    compare("resay.h", &generate("cbindgen.toml", "src/ffi/mod.rs"));
}

#[test]
fn resay_plugin_h_is_up_to_date() {
    compare("resay_plugin.h", &generate("cbindgen-plugin.toml", "plugins/abi/src/abi.rs"));
}
