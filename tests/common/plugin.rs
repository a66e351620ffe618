//! Plugins in C: compiled against the public header when a test runs, and what they tell of themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use resay::Engine;

use super::isolation::skipped;
use super::waiting::eventually;

/// Whether there is a C compiler; said once where there is none.
pub(crate) fn has_compiler() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
        if !found {
            skipped("plugins in C: there is no cc");
        }
        found
    })
}

/// Compiles C code to `libNAME.so` in `directory`; `flags` are for the compiler.
pub(crate) fn compile_with(directory: &Path, name: &str, code: &str, flags: &[&str]) -> PathBuf {
    let (source, library) = (directory.join(format!("{name}.c")), directory.join(format!("lib{name}.so")));
    fs::write(&source, code).unwrap();
    let output = Command::new("cc")
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1", "-shared"])
        .args(["-fPIC", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .args(flags)
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    library
}

/// A chain of several stages. Of `maps | =uppercase` the second is the engine's; `own` tells the text of the first.
pub(crate) fn chain_of(names: &str, own: impl Fn(&str) -> String) -> String {
    let stage = |name: &str| match name.trim().strip_prefix('=') {
        Some(bundled) => bundled.to_owned(),
        None => own(name.trim()),
    };
    names.split('|').map(stage).collect::<Vec<_>>().join(" | ")
}

/// A counter that a transform keeps; 0 while it has not been made.
pub(crate) fn counter(engine: &Engine, name: &str) -> u64 {
    let counters = engine.transform_counters();
    counters.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
}

/// Waits until a transform's counter stands at `wanted`.
#[track_caller]
pub(crate) fn eventually_counted(engine: &Engine, name: &str, wanted: u64) {
    eventually(name, || match counter(engine, name) {
        value if value == wanted => Ok(()),
        value => Err(format!("{value} of {wanted}: {:?}", engine.transform_counters())),
    });
}

/// A message in the frame that an answer of the engine has.
pub(crate) fn framed(frame: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = match frame {
        "len16be" => u16::try_from(message.len()).unwrap().to_be_bytes().to_vec(),
        "varint" if message.len() < 128 => vec![message.len() as u8],
        "varint" => vec![message.len() as u8 | 0x80, u8::try_from(message.len() >> 7).unwrap()],
        _ => Vec::new(),
    };
    bytes.extend_from_slice(message);
    match frame {
        "lines" => bytes.push(b'\n'),
        "delim:0d0a" => bytes.extend_from_slice(b"\r\n"),
        _ => {}
    }
    bytes
}
