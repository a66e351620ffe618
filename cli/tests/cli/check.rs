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
    // By its name, from its directory; with a report about that transform alone.
    let directory = project.to_str().unwrap();
    let info = run(["plugin", "info", "shout", "--plugin-dir", directory], b"");
    assert_eq!(info.code, Some(0), "{}", info.stderr);
    for part in ["libshout.so", "shout 0.1.0", "promises    bytewise"] {
        assert!(info.text().contains(part), "{part}: {}", info.text());
    }
    let named = run(["plugin", "check", "shout", "--plugin-dir", directory, "--no-cost", "--seed", "7"], b"");
    assert_eq!(named.code, Some(0), "{}", named.stderr);
    assert_eq!(named.text(), checked.text());
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

#[test]
fn a_bundled_transform_is_described_by_its_name() {
    let info = run(["plugin", "info", "uppercase"], b"");
    for row in
        ["promises    bytewise", "needs       none", "threading   one instance, called by several threads"]
    {
        assert!(info.text().contains(row), "{}", info.text());
    }
    assert_eq!((info.code, info.stderr.as_str()), (Some(0), ""));
    for part in
        ["uppercase ", "  summary     ", "  origin      bundled\n", "    unicode=<bool>  ", "[default: "]
    {
        assert!(info.text().contains(part), "{part}: {}", info.text());
    }
    let checked = run(["plugin", "check", "uppercase"], b"");
    assert_eq!(checked.code, Some(2), "{}", checked.text());
    assert!(checked.stderr.contains("linked into this program"), "{}", checked.stderr);
    assert!(checked.stderr.contains("libuppercase.so"), "{}", checked.stderr);
}

#[test]
fn an_unknown_name_is_no_file_either() {
    for command in ["info", "check"] {
        let output = run(["plugin", command, "nonesuch"], b"");
        assert_eq!(output.code, Some(6), "{}", output.text());
        for part in ["no transform \"nonesuch\"", "plugin list", "./libmine.so"] {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
    }
}
