//! The C header: clean in every language that it is for, and of the same layout as the Rust types.
//!
//! What needs a compiler that is not installed is left out, and said.
#![allow(clippy::unwrap_used, clippy::panic)]

use core::mem::offset_of;
use resay_plugin::abi::*;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const STRICT_C: &[&str] = &["-Wstrict-prototypes", "-Wold-style-definition"];
const STRICT_CPP: &[&str] = &["-Wold-style-cast", "-Wextra-semi", "-Wzero-as-null-pointer-constant"];
const STRICT: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Compiles `source` to `output`; false: there is no such compiler.
fn compile(compiler: &str, arguments: &[&str], source: &Path, output: &Path) -> bool {
    if !root().join("include/resay_plugin.h").exists() {
        eprintln!("the header is not in this package");
        return false;
    }
    let result = Command::new(compiler)
        .args(STRICT)
        .args(arguments)
        .arg("-I")
        .arg(root().join("include"))
        .arg(source)
        .arg("-o")
        .arg(output)
        .output();
    let Ok(result) = result else {
        eprintln!("{compiler} is not installed");
        return false;
    };
    let text = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{compiler} {arguments:?} {}:\n{text}", source.display());
    true
}

fn run(program: &Path, argument: Option<&Path>, input: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).args(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{} {argument:?}: {}", program.display(), output.status);
    output.stdout
}

#[test]
fn clean_in_every_language() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/header.c");
    let languages = [
        (["gcc", "clang"], "c", ["c99", "c11", "c17", "c2x"]),
        (["g++", "clang++"], "c++", ["c++11", "c++14", "c++17", "c++20"]),
    ];
    for (compilers, language, standards) in languages {
        for compiler in compilers {
            for standard in standards {
                let program = scratch(&format!("header-{compiler}-{standard}"));
                let standard = format!("-std={standard}");
                for lifecycle in ["-UWITH_LIFECYCLE", "-DWITH_LIFECYCLE"] {
                    let mut flags = vec!["-x", language, &standard, lifecycle];
                    flags.extend(if language == "c" { STRICT_C } else { STRICT_CPP });
                    if compile(compiler, &flags, &source, &program) {
                        run(&program, None, b"");
                    }
                }
            }
        }
    }
}

#[test]
fn a_plugin_in_cpp_needs_no_cpp20_and_has_one_export() {
    let source = root().join("examples/cpp/plugin_quote.cpp");
    for compiler in ["g++", "clang++"] {
        for standard in ["-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20"] {
            for without in [&[][..], &["-fno-rtti"]] {
                let plugin = scratch(&format!("libquote-{compiler}{standard}.so"));
                let mut flags = vec![standard, "-shared", "-fPIC", "-fvisibility=hidden"];
                flags.extend(STRICT_CPP.iter().chain(without));
                compile(compiler, &flags, &source, &plugin);
            }
        }
    }
}

#[test]
fn the_example_plugin_loads_and_works() {
    let (plugin, loader) = (scratch("librot13.so"), scratch("load"));
    let example = root().join("examples/c/plugin_rot13.c");
    let load = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/load.c");
    if !compile("cc", &["-std=c99", "-shared", "-fPIC"], &example, &plugin)
        || !compile("cc", &["-std=gnu11"], &load, &loader)
    {
        return;
    }
    let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ @[`{0\xff";
    let turned = b"nopqrstuvwxyzabcdefghijklm NOPQRSTUVWXYZABCDEFGHIJKLM @[`{0\xff";
    assert_eq!(run(&loader, Some(&plugin), letters), turned);
    assert_eq!(run(&loader, Some(&plugin), turned), letters);
}

#[test]
fn the_layout_is_the_same() {
    let mut checks = String::from("#include <resay_plugin.h>\n");
    let mut check = |what: String, expected: usize| {
        writeln!(checks, "_Static_assert({what} == {expected}, \"{what}\");").unwrap();
    };
    macro_rules! layout {
        ($type:ident: $($field:ident),+) => {
            check(format!("sizeof({})", stringify!($type)), size_of::<$type>());
            $(
                let field = stringify!($field).trim_start_matches("r#");
                check(format!("offsetof({}, {field})", stringify!($type)), offset_of!($type, $field));
            )+
        };
    }
    layout!(resay_bytes: ptr, len);
    layout!(resay_kv: key, value);
    layout!(resay_option: key, r#type, fallback, help, unit, min, max);
    layout!(resay_text: buf, cap);
    layout!(resay_io: struct_size, flags, input, input_len, input_used, output, output_cap, output_len, output_need, delay_us, copies, zero);
    layout!(resay_peer: struct_size, kind, id, local, peer, listener, via, facts);
    layout!(resay_host: struct_size, abi_minor, ctx, log_level, log, counter, counter_add, extension);
    layout!(resay_transform: struct_size, caps, needs, threading, id, version, summary, user, options);
    layout!(resay_transform: n_options, session_size, session_align, out_mul, out_div, out_add, create);
    layout!(resay_transform: destroy, session_open, session_close, map, process, extension, option_size, reserved);
    layout!(resay_select: struct_size, select);
    layout!(resay_session_state: struct_size, schema, save, load);
    layout!(resay_library: struct_size, abi_minor, flags, n, transforms, shutdown, init);
    layout!(resay_thread_check: struct_size, current);
    let source = scratch("layout.c");
    std::fs::write(&source, checks).unwrap();
    compile("cc", &["-std=c11", "-c"], &source, &scratch("layout.o"));
}
