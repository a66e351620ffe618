//! What the tests of this package share: a compiler, and the program to run again for a probe.

use resay_check::{CheckOptions, Outcome, Report};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Options for a program of tests: a probe reaches `child_main()` through the test named `child`.
pub(crate) fn options() -> CheckOptions {
    let mut options = CheckOptions::default();
    options.child_arguments = ["child", "--exact", "--nocapture"].map(Into::into).to_vec();
    options.seed = Some(1);
    options.budget = Duration::from_millis(60);
    options.limit = Duration::from_secs(60);
    options.cost = false;
    options
}

/// What the test named `child` does.
pub(crate) fn child() {
    if resay_check::child_main().is_some() {
        std::process::exit(0);
    }
}

/// Reports a part of a test that this machine cannot run.
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compiles a plugin in C as the documentation says.
pub(crate) fn compile(source: &Path, plugin: &Path, arguments: &[&str]) {
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .arg("-I")
        .arg(root().join("include"))
        .arg("-o")
        .arg(plugin)
        .arg(source)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
}

/// The promises that were broken, each once.
pub(crate) fn broken(report: &Report) -> Vec<&'static str> {
    let mut codes: Vec<_> = report.failures().map(|finding| finding.promise.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Asserts that nothing failed, and that these probes were not skipped.
pub(crate) fn assert_passes(report: &Report, probes: &[&str]) {
    assert!(report.passed(), "{report}");
    assert_eq!(report.exit_status(), 0);
    for probe in probes {
        let finding = report.findings.iter().find(|finding| finding.probe == *probe).unwrap();
        assert_eq!(finding.outcome, Outcome::Pass, "{probe}:\n{report}");
    }
}

/// Builds with cargo, without a network, beside this test's own output: the directory of what was built.
pub(crate) fn cargo(arguments: &[&str], project: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--quiet", "-j1"])
        .current_dir(project)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    target.join("debug")
}
