//! Names the shared library after the ABI.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let abi = constant(&root.join("src/ffi/mod.rs"), "RESAY_ABI: u32 = ");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libresay.so.{abi}");
    }
}

/// The number after `text` in a source file.
fn constant(source: &Path, text: &str) -> String {
    println!("cargo::rerun-if-changed={}", source.display());
    let code = std::fs::read_to_string(source).unwrap_or_default();
    let digits: String = code
        .split_once(text)
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .unwrap_or_default();
    if digits.is_empty() { fail(source, &format!("has no {text}")) } else { digits }
}

fn fail(file: &Path, reason: &str) -> ! {
    println!("cargo::error={}: {reason}", file.display());
    std::process::exit(1)
}
