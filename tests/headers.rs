//! The committed C headers are what the code generates.
//!
//! After a change of the interface: `RESAY_BLESS=1 cargo test --test headers`.

#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers.

use std::fs;
use std::path::Path;

/// What resay.h is made of, in its order.
const FFI: &[&str] = &["src/ffi/mod.rs"];

/// What resay_plugin.h is made of.
const PLUGIN: &[&str] = &["plugins/abi/src/abi.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Here and not in the build script, where everybody who builds Resay would have to build cbindgen first.
fn generate(config: &str, sources: &[&str]) -> String {
    let mut code = String::new();
    for source in sources {
        let path = root().join(source);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // What concerns a file as a whole can only stand at its beginning.
        let lines = text.lines().filter(|line| !line.starts_with("//!") && !line.starts_with("#!["));
        lines.for_each(|line| code.extend([line, "\n"]));
    }
    // As one file: cbindgen would put several into the order of their names.
    let joined = Path::new(env!("CARGO_TARGET_TMPDIR")).join(config).with_extension("rs");
    fs::write(&joined, code).unwrap();
    let config = cbindgen::Config::from_file(root().join(config)).unwrap();
    let bindings = cbindgen::Builder::new().with_config(config).with_src(&joined).generate();
    let mut header = Vec::new();
    bindings.unwrap_or_else(|error| panic!("{sources:?}: {error}")).write(&mut header);
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
    compare("resay.h", &generate("cbindgen.toml", FFI));
}

#[test]
fn resay_plugin_h_is_up_to_date() {
    compare("resay_plugin.h", &generate("cbindgen-plugin.toml", PLUGIN));
}
