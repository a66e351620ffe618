//! Generates the C headers into OUT_DIR, where a test compares them with the committed ones, and names the shared
//! library after the ABI.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    header(&root, "cbindgen.toml", "src/ffi/mod.rs", &out.join("resay.h"));
    header(&root, "cbindgen-plugin.toml", "plugins/abi/src/abi.rs", &out.join("resay_plugin.h"));
    println!("cargo::rerun-if-changed=build.rs");

    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let abi = constant(&root.join("src/ffi/mod.rs"), "RESAY_ABI: u32 = ");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libresay.so.{abi}");
    }
}

/// Generates one header. In a package that lacks the source, the committed header is all there is.
fn header(root: &Path, config: &str, source: &str, out: &Path) {
    let (config, source) = (root.join(config), root.join(source));
    println!("cargo::rerun-if-changed={}", config.display());
    println!("cargo::rerun-if-changed={}", source.display());
    if !source.exists() {
        return;
    }
    let config = cbindgen::Config::from_file(&config).unwrap_or_else(|error| fail(&config, &error));
    match cbindgen::Builder::new().with_config(config).with_src(&source).generate() {
        Ok(bindings) => {
            bindings.write_to_file(out);
        }
        Err(error) => fail(&source, &error.to_string()),
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
