//! The form of commit subjects: `area: verb object`, in at most 72 columns.
//!
//! The rule holds for what comes after [`BASE`]. A shallow clone may not have that commit; then all that it has is
//! newer, because every branch begins at the base or later, and all of it is checked. Merges have git's own subjects.

use std::path::Path;
use std::process::Command;

use crate::place::Place;
use crate::report::Outcome;

/// The last commit from before the rule. Where a subject that breaks it is published already, it moves behind that.
const BASE: &str = "b8210ed686798183f7a6416a04edb5fe00659ca6";
const COLUMNS_MAX: usize = 72;

pub(crate) fn check(place: &Place) -> Outcome {
    check_since(&place.root, BASE)
}

fn check_since(root: &Path, base: &str) -> Outcome {
    let range = match range(root, base) {
        Ok(range) => range,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let log = match git(root, &["log", "--no-merges", "--format=%h %s", &range]) {
        Ok(log) => log,
        Err(reason) => return Outcome::Failed(reason),
    };
    let mut wrong = 0;
    for (commit, subject) in log.lines().filter_map(|line| line.split_once(' ')) {
        if let Err(reason) = check_subject(subject) {
            println!("commit {commit}: {subject:?}: {reason}");
            wrong += 1;
        }
    }
    if wrong == 0 { Outcome::Ok } else { Outcome::Failed(format!("{wrong} commit subjects break the rule")) }
}

/// The commits that are to be checked.
fn range(root: &Path, base: &str) -> Result<String, String> {
    if git(root, &["merge-base", "--is-ancestor", base, "HEAD"]).is_ok() {
        return Ok(format!("{base}..HEAD"));
    }
    match git(root, &["rev-parse", "--is-shallow-repository"]) {
        Ok(answer) if answer.trim() == "true" => Ok("HEAD".to_owned()),
        Ok(_) => Err(format!("{base}, where the rule begins, is not in this history")),
        Err(reason) => Err(format!("no git history: {reason}")),
    }
}

fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
    let output = output.map_err(|error| format!("git: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("git {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Whether a subject is `area: verb object`.
fn check_subject(subject: &str) -> Result<(), String> {
    let columns = subject.chars().count();
    if columns > COLUMNS_MAX {
        return Err(format!("{columns} columns, at most {COLUMNS_MAX}"));
    }
    let Some((area, what)) = subject.split_once(": ") else {
        return Err("no area: write \"area: verb object\"".to_owned());
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./".contains(c))
    };
    if !area.split(", ").all(is_name) {
        return Err(format!("the area {area:?} is not a name in small letters"));
    }
    if !what.starts_with(|c: char| c.is_ascii_lowercase()) || !what.contains(' ') {
        return Err("after the area: a verb in small letters and an object".to_owned());
    }
    if what.ends_with('.') {
        return Err("no full stop at the end".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn commit(root: &Path, subject: &str) -> String {
        let name = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        let what = ["commit", "--quiet", "--allow-empty", "--no-verify", "-m", subject];
        git(root, &[&name[..], &what[..]].concat()).unwrap();
        git(root, &["rev-parse", "HEAD"]).unwrap().trim().to_owned()
    }

    #[test]
    fn commits_from_before_the_rule_are_left_alone_in_shallow_clones_too() {
        let scratch = std::env::temp_dir().join(format!("xtask-commits-{}", std::process::id()));
        let (full, shallow) = (scratch.join("full"), scratch.join("shallow"));
        fs::create_dir_all(&full).unwrap();
        git(&full, &["init", "--quiet"]).unwrap();
        commit(&full, "From before the rule");
        let base = commit(&full, "Also from before");
        assert_eq!(check_since(&full, &base), Outcome::Ok);
        commit(&full, "docs: describe the clock");
        assert_eq!(check_since(&full, &base), Outcome::Ok);
        let url = format!("file://{}", full.display());
        git(&scratch, &["clone", "--quiet", "--depth=1", &url, "shallow"]).unwrap();
        assert_eq!(check_since(&shallow, &base), Outcome::Ok);

        commit(&shallow, "Describe the clock");
        assert!(matches!(check_since(&shallow, &base), Outcome::Failed(_)));
        // Another history, and none at all.
        assert!(matches!(check_since(&full, &"0".repeat(40)), Outcome::Skipped(_)));
        assert!(matches!(check_since(&scratch, &base), Outcome::Skipped(_)));
        fs::remove_dir_all(&scratch).unwrap();
    }

    #[test]
    fn subjects_name_an_area_a_verb_and_an_object() {
        for good in [
            "uring: keep multishot recv armed after ENOBUFS",
            "docs, xtask: draw the terminal from a run",
            "plugins/abi: say who owns the text",
        ] {
            assert_eq!(check_subject(good), Ok(()), "{good}");
        }
        let long = format!("docs: describe {}", "x".repeat(COLUMNS_MAX));
        for (wrong, reason) in [
            ("Receive from unix streams", "no area"),
            ("Docs: describe the clock", "small letters"),
            ("docs: Describe the clock", "a verb"),
            ("docs: rewrite", "a verb"),
            ("docs: describe the clock.", "full stop"),
            (long.as_str(), "at most 72"),
        ] {
            let found = check_subject(wrong).unwrap_err();
            assert!(found.contains(reason), "{wrong}: {found}");
        }
    }
}
