//! The units of contrib/systemd, as systemd itself sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd")
}

/// What `systemd-analyze` prints, where there is one.
fn analyze(arguments: &[&str], unit: &Path) -> Option<String> {
    let Ok(output) = Command::new("systemd-analyze").args(arguments).arg(unit).output() else {
        eprintln!("skipped: there is no systemd-analyze");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{}: {text}", unit.display());
    Some(text)
}

#[test]
fn services_are_exposed_to_little() {
    for unit in ["resay.service", "resay@.service"] {
        let Some(text) = analyze(&["security", "--offline=yes", "--no-pager"], &units().join(unit)) else {
            return;
        };
        let (_, level) = text.rsplit_once("exposure level for ").expect(&text);
        let level = level.split_whitespace().find_map(|word| word.parse::<f64>().ok()).expect(&text);
        assert!(level <= 1.3, "{unit}: {text}");
    }
}

/// With a program that is there, and each beside the others.
#[test]
fn units_are_what_systemd_reads() {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/bin/resay", env!("CARGO_BIN_EXE_resay"));
        std::fs::write(directory.path().join(path.file_name().unwrap()), text).unwrap();
    }
    for unit in ["resay.service", "resay@one.service", "resay.socket"] {
        let Some(text) = analyze(&["verify", "--man=no"], &directory.path().join(unit)) else { return };
        assert!(!text.contains("resay"), "{unit}: {text}");
    }
}

/// The guide shows the service as it is.
#[test]
fn the_guide_shows_the_service() {
    let guide = include_str!("../../../docs/serving.md");
    let service = std::fs::read_to_string(units().join("resay.service")).unwrap();
    for line in ["Type=notify", "WatchdogSec=30", "DynamicUser=yes", "RuntimeDirectory=resay"] {
        assert!(service.lines().any(|found| found == line) && guide.contains(line), "{line}");
    }
}
