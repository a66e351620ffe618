//! The committed C headers are what the code generates, and so are `resay.cdef` and `resay.json`, which are made of them.
//!
//! After a change of the interface: `RESAY_BLESS=1 cargo test --test headers`.

#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers.

mod headers {
    pub(crate) mod declarations;
    pub(crate) mod interface;
    pub(crate) mod json;
    pub(crate) mod proof;
}

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use headers::interface::Interface;
use headers::proof::{all, program, word};
use serde_json::Value;

/// What cbindgen made for this very test.
fn generated(name: &str) -> String {
    fs::read_to_string(Path::new(env!("OUT_DIR")).join(name)).unwrap()
}

fn interface() -> Interface {
    let [plugin, host] = ["resay_plugin.h", "resay.h"].map(generated);
    Interface::read(&[("resay_plugin.h", &plugin), ("resay.h", &host)]).unwrap()
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn compare(name: &str, generated: &str) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("include").join(name);
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
    compare("resay.h", &generated("resay.h"));
}

#[test]
fn resay_plugin_h_is_up_to_date() {
    compare("resay_plugin.h", &generated("resay_plugin.h"));
}

#[test]
fn resay_cdef_is_up_to_date() {
    compare("resay.cdef", &interface().cdef());
}

#[test]
fn resay_json_is_up_to_date() {
    compare("resay.json", &interface().json().unwrap());
}

#[test]
fn resay_json_has_every_name_of_the_headers() {
    // Macros, and what only plugins define.
    const NO_ITEMS: [&str; 11] = [
        "RESAY_H",
        "RESAY_PLUGIN_H",
        "RESAY_HAS",
        "RESAY_EXPORT",
        "RESAY_EXTERN_C",
        "RESAY_NULL",
        "RESAY_OPTIONS",
        "RESAY_PLUGIN",
        "RESAY_PLUGIN_WITH",
        "resay_plugin_end",
        "resay_plugin_v1",
    ];
    let json = parsed(&interface().json().unwrap());
    let lists = ["constants", "opaque", "types", "callbacks", "structs", "functions"];
    let described: BTreeSet<_> =
        lists.iter().flat_map(|list| all(&json, list)).map(|item| word(item, "name").to_owned()).collect();
    // And no other: what a file of the interface uses of C's is not part of it.
    let foreign: Vec<_> = described.iter().filter(|name| !is_ours(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?} are in the headers");
    for name in ["resay.h", "resay_plugin.h"] {
        let mut code = String::new();
        for (index, part) in generated(name).split("/*").enumerate() {
            code.push_str(if index == 0 { part } else { part.split_once("*/").unwrap().1 });
        }
        let code: Vec<_> = code.lines().filter(|line| !line.starts_with("#include")).collect();
        let code = code.join("\n");
        let names = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let missing: BTreeSet<_> = names
            .filter(|name| is_ours(name))
            .filter(|name| !described.contains(*name) && !NO_ITEMS.contains(name))
            .collect();
        assert!(missing.is_empty(), "{name}: {missing:?} are in no list of resay.json");
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("resay_") || name.starts_with("RESAY_")
}

#[test]
fn resay_json_has_names_types_and_places_as_the_compiler_has_them() {
    let json = parsed(&interface().json().unwrap());
    let json_program = program("#include <resay.h>\n", &json, true);
    let asserted = json_program.matches("_Static_assert").count();
    assert!(asserted > 200, "{asserted}");
    compiled_and_run("json", &json_program);
    // The same of the declarations without a preprocessor.
    let cdef = interface().cdef();
    assert_eq!(cdef.lines().find(|line| line.trim_start().starts_with('#')), None);
    compiled_and_run("cdef", &program(&cdef, &json, false));
}

#[test]
fn a_wrong_place_does_not_compile() {
    let mut json = parsed(&interface().json().unwrap());
    let field = &mut json["structs"][0]["fields"][0];
    field["offset"] = (field["offset"].as_u64().unwrap() + 8).into();
    let code = program("#include <resay.h>\n", &json, true);
    if let Some((is_good, said)) = compiled("wrong", &code) {
        assert!(!is_good && said.contains("static assertion failed"), "{said}");
    }
}

fn compiled_and_run(name: &str, code: &str) {
    if let Some((is_good, said)) = compiled(name, code) {
        assert!(is_good, "{said}");
        let status = Command::new(directory().join(name)).status().unwrap();
        assert!(status.success(), "{name}: {status}");
    }
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("headers")
}

/// Whether it compiles, and what the compiler says; `None`: there is none, or the layouts are not this machine's.
fn compiled(name: &str, code: &str) -> Option<(bool, String)> {
    if cfg!(not(target_pointer_width = "64"))
        || !Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success())
    {
        eprintln!("no cc, or not 64 bits");
        return None;
    }
    fs::create_dir_all(directory()).unwrap();
    let source = directory().join(format!("{name}.c"));
    fs::write(&source, code).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-const-variable"]);
    compile.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    let output = compile.arg(&source).arg("-o").arg(directory().join(name)).output().unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}
