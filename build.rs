//! Names the shared library after the ABI. For tests (feature `headers`) it also generates the C headers into OUT_DIR, where
//! one compares them with the committed ones.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let abi = constant(&root.join("src/ffi/mod.rs"), "RESAY_ABI: u32 = ");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libresay.so.{abi}");
    }
    #[cfg(feature = "headers")]
    headers::generate(&root, &PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()));
}

#[cfg(feature = "headers")]
mod headers {
    use std::path::Path;

    use super::fail;

    /// What resay.h is made of, in its order.
    const FFI: [&str; 17] = [
        "src/ffi/mod.rs",
        "src/ffi/error.rs",
        "src/ffi/engine.rs",
        "src/ffi/address.rs",
        "src/ffi/listener.rs",
        "src/ffi/connection.rs",
        "src/ffi/callback.rs",
        "src/ffi/function.rs",
        "src/ffi/transform.rs",
        "src/ffi/dry_run.rs",
        "src/ffi/lookup.rs",
        "src/ffi/run.rs",
        "src/ffi/threads.rs",
        "src/ffi/observe.rs",
        "src/ffi/event.rs",
        "src/ffi/tap.rs",
        "src/ffi/client.rs",
    ];

    pub(crate) fn generate(root: &Path, out: &Path) {
        header(root, "cbindgen.toml", &FFI, &out.join("resay.h"));
        header(root, "cbindgen-plugin.toml", &["plugins/abi/src/abi.rs"], &out.join("resay_plugin.h"));
    }

    fn header(root: &Path, config: &str, sources: &[&str], out: &Path) {
        let config = root.join(config);
        println!("cargo::rerun-if-changed={}", config.display());
        let mut code = String::new();
        for source in sources {
            let source = root.join(source);
            println!("cargo::rerun-if-changed={}", source.display());
            let text =
                std::fs::read_to_string(&source).unwrap_or_else(|error| fail(&source, &error.to_string()));
            // What concerns a file as a whole can only stand at its beginning.
            let lines = text.lines().filter(|line| !line.starts_with("//!") && !line.starts_with("#!["));
            lines.for_each(|line| {
                code.push_str(line);
                code.push('\n');
            });
        }
        // As one file: cbindgen would put several into the order of their names.
        let joined = out.with_extension("rs");
        if let Err(error) = std::fs::write(&joined, code) {
            fail(&joined, &error.to_string());
        }
        let config = cbindgen::Config::from_file(&config).unwrap_or_else(|error| fail(&config, &error));
        match cbindgen::Builder::new().with_config(config).with_src(&joined).generate() {
            Ok(bindings) => {
                bindings.write_to_file(out);
            }
            Err(error) => fail(out, &error.to_string()),
        }
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
