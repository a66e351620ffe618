use std::path::Path;
use std::process::Command;

use crate::process::run;

#[test]
fn a_new_c_plugin_builds_and_passes_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let made = run(["plugin", "new", "shout", "--lang", "c", "--dir", path], b"");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let project = directory.path().join("shout");
    match Command::new("make").arg("-C").arg(&project).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => return eprintln!("skipped: there is no make"),
    }
    let library = project.join("libshout.so");
    let library = library.to_str().unwrap();
    let info = run(["plugin", "info", library], b"");
    assert_eq!(info.code, Some(0), "{}", info.stderr);
    assert!(info.text().contains("shout"), "{}", info.text());
    let checked = run(["plugin", "check", library, "--no-cost", "--seed", "7"], b"");
    assert_eq!(checked.code, Some(0), "{}", checked.text());
    assert!(checked.text().contains("0 failed"), "{}", checked.text());
    let json = run(["plugin", "check", library, "--no-cost", "--json"], b"");
    assert!(json.text().trim_start().starts_with('{'), "{}", json.text());
}

#[test]
fn what_is_no_plugin_fails_the_check() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let file = file.to_str().unwrap();
    let checked = run(["plugin", "check", file], b"");
    assert_eq!(checked.code, Some(6), "{}", checked.text());
    let info = run(["plugin", "info", file], b"");
    assert_eq!(info.code, Some(6), "{}", info.stderr);
    let wrong = run(["plugin", "check", file, "--option", "novalue"], b"");
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
}
