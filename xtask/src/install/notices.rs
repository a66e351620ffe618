//! The licences of what is linked into the command and the libraries, for whoever passes these on. Taken from the
//! sources that cargo has built from, so nothing is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{about, files_in};
use crate::packages::{manifests, value_of};
use crate::place::Place;
use crate::report::capture;

/// Beside the other texts.
pub(crate) const FILE: &str = "THIRD-PARTY-NOTICES";

/// What is installed with code in it. `no-proc-macro`: such crates run in the compiler.
const TREE: &str = "tree --offline --quiet --package resay --package resay-cli --package resay-transforms \
                    --edges normal,no-proc-macro --prefix none --no-dedupe --format {p}|{l}";

/// How names of files with a licence begin, in capitals.
const BEGINNINGS: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

const HEAD: &str = "\
The command resay and the libraries libresay.so and libresay.a contain code of the packages below and of the Rust
standard library (The Rust Project contributors, MIT OR Apache-2.0). Resay itself is under MIT OR Apache-2.0.
";

/// A package from elsewhere that is linked in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) version: String,
    license: String,
}

/// The whole file: a list of packages, then each text once, with the packages that have it.
pub(crate) fn text(place: &Place) -> Result<String, String> {
    let directories = directories(place)?;
    let mut file = HEAD.to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    file.push('\n');
    for package in linked(place)? {
        let name = format!("{} {}", package.name, package.version);
        let directory = directories
            .get(&(package.name, package.version))
            .ok_or_else(|| format!("cargo metadata does not say where {name} is"))?;
        // Writing to a string cannot fail.
        let _ = writeln!(file, "  {name}: {}", package.license);
        for path in licenses(directory)? {
            let text = fs::read_to_string(&path).map_err(about(&path))?;
            let text: Vec<_> = text.lines().map(str::trim_end).collect();
            texts.entry(text.join("\n").trim_matches('\n').to_owned()).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        let names: BTreeSet<_> = names.into_iter().collect();
        let names: Vec<_> = names.into_iter().collect();
        let _ = write!(file, "\n{}\n{}\n\n{text}\n", "=".repeat(80), names.join(", "));
    }
    Ok(file)
}

/// Every package from elsewhere that is linked in, by name.
pub(crate) fn linked(place: &Place) -> Result<BTreeSet<Linked>, String> {
    let printed = capture(place.cargo(TREE))?;
    let linked: BTreeSet<_> = printed.lines().filter_map(foreign).collect();
    if linked.is_empty() { Err(format!("cargo tree names no package:\n{printed}")) } else { Ok(linked) }
}

/// Reads `NAME vVERSION|LICENSE`. Packages of this workspace have their directory there too.
fn foreign(line: &str) -> Option<Linked> {
    let (package, license) = line.split_once('|')?;
    let (name, version) = package.trim().split_once(" v")?;
    let is_foreign = !version.contains(' ');
    is_foreign.then(|| Linked {
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.trim().to_owned(),
    })
}

/// Where the sources of each package are, by name and version.
fn directories(place: &Place) -> Result<BTreeMap<(String, String), PathBuf>, String> {
    let mut directories = BTreeMap::new();
    // Those for other systems were never fetched.
    let metadata =
        format!("metadata --format-version 1 --offline --quiet --filter-platform {}", host(place)?);
    for manifest in manifests(place.cargo(&metadata))? {
        let text = fs::read_to_string(&manifest).map_err(about(&manifest))?;
        let value = |key| value_of(&text, key).map(|value| value.trim_matches('"').to_owned());
        if let (Some(name), Some(version), Some(directory)) =
            (value("name"), value("version"), manifest.parent())
        {
            directories.insert((name, version), directory.to_owned());
        }
    }
    Ok(directories)
}

/// The target that the compiler builds for.
fn host(place: &Place) -> Result<String, String> {
    let mut rustc = place.rustc();
    rustc.arg("-vV");
    let described = capture(rustc)?;
    let host = described.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}

/// The files with a package's licences; there is one at least.
fn licenses(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let is_license = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    };
    let found: Vec<_> = files_in(directory)?.into_iter().filter(is_license).collect();
    if found.is_empty() {
        return Err(format!(
            "{}: no file with a licence, which must come with what is linked: use another version or package",
            directory.display()
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_the_workspace_are_not_foreign() {
        let clap = foreign("clap v4.6.7|MIT OR Apache-2.0").unwrap();
        assert_eq!((clap.name.as_str(), clap.version.as_str()), ("clap", "4.6.7"));
        assert_eq!(clap.license, "MIT OR Apache-2.0");
        assert_eq!(foreign("resay v0.1.0 (/src/resay)|MIT OR Apache-2.0"), None);
        assert_eq!(foreign(""), None);
    }
}
