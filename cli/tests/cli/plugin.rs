use std::fs;

use crate::process::{finish, resay, run};

#[test]
fn the_list_has_the_bundled_transforms() {
    let output = run(["plugin", "list"], b"");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    let text = output.text();
    let first_words: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(first_words.starts_with(&["ID"]), "{text}");
    assert!(first_words.contains(&"identity") && first_words.contains(&"uppercase"), "{text}");
    assert!(text.contains("bundled"), "{text}");
    let verbose = run(["plugin", "list", "-v"], b"").text();
    assert!(verbose.contains("    unicode=<bool>  "), "{verbose}");
}

#[test]
fn a_broken_file_is_told_and_matters_where_its_directory_was_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("libbroken.so"), "not a library").unwrap();
    let path = directory.path().to_str().unwrap();
    let named = run(["plugin", "list", "--plugin-dir", path], b"");
    assert_eq!(named.code, Some(6), "{}", named.stderr);
    assert!(
        named.stderr.starts_with("resay: plugin ") && named.stderr.contains("libbroken.so"),
        "{}",
        named.stderr
    );
    assert!(named.text().contains("uppercase"), "the others are listed all the same");
    let mut command = resay(["plugin", "list"]);
    command.env("RESAY_PLUGIN_PATH", path);
    let inherited = finish(command, b"");
    assert_eq!(inherited.code, Some(0));
    assert!(inherited.stderr.contains("libbroken.so"), "{}", inherited.stderr);
}

#[test]
fn a_name_that_is_almost_there_is_suggested() {
    for command in ["info", "check"] {
        let output = run(["plugin", command, "upercase"], b"");
        assert_eq!(output.code, Some(6));
        assert!(output.stderr.contains("did you mean \"uppercase\"?"), "{}", output.stderr);
        assert!(run(["plugin", command, "nonsense"], b"").stderr.contains("plugin list"));
    }
}

#[test]
fn a_directory_that_is_not_there_exits_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none");
    for command in [["plugin", "list"], ["serve", "tcp://127.0.0.1:0"]] {
        let output = run(command.into_iter().chain(["--plugin-dir", path.to_str().unwrap()]), b"");
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert!(output.stderr.contains("none"), "{}", output.stderr);
    }
}
