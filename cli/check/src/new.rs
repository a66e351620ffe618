//! `resay plugin new`: a project that builds without a network and passes the check as it is. What it needs of Resay is
//! in it: the headers for C and C++, the SDK's sources for Rust.

mod sdk;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const HEADER: &str = include_str!("new/resay_plugin.h");
const CPP_HEADER: &str = include_str!("new/resay_plugin.hpp");
/// A version script: what the templates of C++ libraries would export stays inside.
const EXPORTS: &str = "{\n  global: resay_plugin_v1;\n  local: *;\n};\n";

/// The language of a new plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// C: one file, a Makefile, the header.
    C,
    /// C++: likewise, with the header for C++.
    Cpp,
    /// Rust: a package, and a copy of the SDK.
    Rust,
}

impl std::str::FromStr for Lang {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "c" => Ok(Lang::C),
            "c++" | "cpp" => Ok(Lang::Cpp),
            "rust" => Ok(Lang::Rust),
            other => Err(format!("unknown language '{other}': write c, c++ or rust")),
        }
    }
}

/// Makes the directory `name` in `dir` and writes a project into it; returns the files. Existing files are never
/// changed.
pub fn new(name: &str, lang: Lang, dir: &Path) -> io::Result<Vec<PathBuf>> {
    check_name(name)?;
    let root = dir.join(name);
    fs::create_dir(&root)?;
    let mut written = Vec::new();
    for (path, text) in files(name, lang) {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The files of a project: paths and texts.
fn files(name: &str, lang: Lang) -> Vec<(String, String)> {
    let filled = |path: &str, template: &str| (path.to_owned(), filled(template, name));
    let copied = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    match lang {
        Lang::C => vec![
            filled(&format!("{name}.c"), include_str!("new/templates/plugin.c")),
            filled("Makefile", include_str!("new/templates/Makefile.c")),
            filled("README.md", include_str!("new/templates/README.c.md")),
            copied("resay_plugin.h", HEADER),
            copied(".gitignore", "*.so\n"),
        ],
        Lang::Cpp => vec![
            filled(&format!("{name}.cpp"), include_str!("new/templates/plugin.cpp")),
            filled("Makefile", include_str!("new/templates/Makefile.cpp")),
            filled("README.md", include_str!("new/templates/README.cpp.md")),
            copied("resay_plugin.h", HEADER),
            copied("resay_plugin.hpp", CPP_HEADER),
            copied("exports.map", EXPORTS),
            copied(".gitignore", "*.so\n"),
        ],
        Lang::Rust => {
            let mut files = vec![
                filled("Cargo.toml", include_str!("new/templates/Cargo.toml.in")),
                filled("src/lib.rs", include_str!("new/templates/plugin.rs.in")),
                filled("README.md", include_str!("new/templates/README.rust.md")),
                copied(".gitignore", "/target\n"),
                copied(&format!("{}/Cargo.toml", sdk::NAME), &sdk::manifest()),
            ];
            files.extend(sdk::LICENSES.iter().chain(sdk::SOURCES).map(|(path, text)| copied(path, text)));
            files
        }
    }
}

/// The name is that of a transform, a file and a package.
fn check_name(name: &str) -> io::Result<()> {
    let invalid = |what: &str| {
        let what = format!("the name '{name}' cannot be used: {what}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    };
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_letter) || name.len() > 64
    {
        return invalid("write lower case letters, digits, '-' and '_', a letter first, at most 64");
    }
    if name == sdk::NAME {
        return invalid("it is that of the SDK");
    }
    Ok(())
}

fn filled(template: &str, name: &str) -> String {
    template
        .replace("@NAME@", name)
        .replace("@IDENTIFIER@", &name.replace('-', "_"))
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_used_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "Flip", "1flip", "-x", "a/b", "..", "größe", "a b", "resay-plugin"] {
            let error = new(name, Lang::C, dir.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("flip")).unwrap();
        let error = new("flip", Lang::Rust, dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn templates_are_filled_completely() {
        for lang in [Lang::C, Lang::Cpp, Lang::Rust] {
            for (path, text) in files("my-flip", lang).iter().filter(|(path, _)| !path.starts_with(sdk::NAME))
            {
                for word in ["NAME", "IDENTIFIER", "VERSION"] {
                    assert!(!text.contains(&format!("@{word}@")), "{path}");
                }
            }
        }
    }
}
