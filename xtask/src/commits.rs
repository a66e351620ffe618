//! The form of commit subjects: `area: verb object`, in at most 72 columns.
//!
//! The rule holds for what comes after [`BASE`]. A shallow clone may not have that commit; then all that it has is
//! newer, because every branch begins at the base or later, and all of it is checked. Merges have git's own subjects.

use std::process::Command;

use crate::Place;
use crate::report::Outcome;

/// The last commit from before the rule. Where a subject that breaks it is published already, it moves behind that.
const BASE: &str = "b8210ed686798183f7a6416a04edb5fe00659ca6";
const COLUMNS_MAX: usize = 72;

pub(crate) fn check(place: &Place) -> Outcome {
    let range = match range(place) {
        Ok(range) => range,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let log = match git(place, &["log", "--no-merges", "--format=%h %s", &range]) {
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
fn range(place: &Place) -> Result<String, String> {
    if git(place, &["merge-base", "--is-ancestor", BASE, "HEAD"]).is_ok() {
        return Ok(format!("{BASE}..HEAD"));
    }
    match git(place, &["rev-parse", "--is-shallow-repository"]) {
        Ok(answer) if answer.trim() == "true" => Ok("HEAD".to_owned()),
        Ok(_) => Err(format!("{BASE}, where the rule begins, is not in this history")),
        Err(reason) => Err(format!("no git history: {reason}")),
    }
}

fn git(place: &Place, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(&place.root).args(arguments).output();
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
