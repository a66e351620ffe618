//! Begins a plugin: a project that builds and passes the check as it is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The line of a Rust plugin's Cargo.toml that names the SDK, where nothing else is asked for.
pub const DEPENDENCY: &str = "resay-plugin = \"0.1\"";

/// The language of a new plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// C: one file, a Makefile, the header.
    C,
    /// Rust: a crate on the SDK.
    Rust,
}

impl std::str::FromStr for Lang {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "c" => Ok(Lang::C),
            "rust" => Ok(Lang::Rust),
            other => Err(format!("no language '{other}', but: c, rust")),
        }
    }
}

/// Makes the directory `name` in `dir` and writes a project into it: the files that were written. Nothing that is
/// there is touched. `dependency` is the line of Cargo.toml for the SDK, such as [`DEPENDENCY`].
pub fn new(name: &str, lang: Lang, dir: &Path, dependency: &str) -> io::Result<Vec<PathBuf>> {
    check_name(name)?;
    let root = dir.join(name);
    let files: &[(String, &str)] = &match lang {
        Lang::C => vec![
            (format!("{name}.c"), include_str!("templates/plugin.c")),
            ("Makefile".to_owned(), include_str!("templates/Makefile")),
            ("README.md".to_owned(), include_str!("templates/README.c.md")),
            ("resay_plugin.h".to_owned(), include_str!("../../../include/resay_plugin.h")),
            (".gitignore".to_owned(), "*.so\n*.dylib\n"),
        ],
        Lang::Rust => vec![
            ("Cargo.toml".to_owned(), include_str!("templates/Cargo.toml.in")),
            ("src/lib.rs".to_owned(), include_str!("templates/plugin.rs.in")),
            ("README.md".to_owned(), include_str!("templates/README.rust.md")),
            (".gitignore".to_owned(), "/target\n"),
        ],
    };
    fs::create_dir(&root)?;
    let mut written = Vec::new();
    for (path, template) in files {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let text = filled(template, name, dependency);
        OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// A name of a transform, a file and a crate alike.
fn check_name(name: &str) -> io::Result<()> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_letter) && name.len() <= 64 {
        return Ok(());
    }
    let what =
        format!("the name '{name}' cannot be used: small letters, digits, '-' and '_', a letter first");
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

fn filled(template: &str, name: &str, dependency: &str) -> String {
    template
        .replace("@NAME@", name)
        .replace("@IDENTIFIER@", &name.replace('-', "_"))
        .replace("@DEPENDENCY@", dependency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_used_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "Flip", "1flip", "-x", "a/b", "..", "größe", "a b"] {
            let error = new(name, Lang::C, dir.path(), DEPENDENCY).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("flip")).unwrap();
        let error = new("flip", Lang::Rust, dir.path(), DEPENDENCY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
