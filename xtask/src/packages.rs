//! The packages that are published: what is in them, and that they compile from that alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{about, remove};
use crate::place::Place;
use crate::report::{Outcome, capture, run};

/// What crates.io and its readers look for, in every manifest.
const FIELDS: [&str; 5] = ["description", "license", "keywords", "categories", "rust-version"];
/// Files that every package has in it.
const FILES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];
/// What is not for users of a package.
const FOREIGN: [&str; 6] = [".ci/", ".cargo/", "benches/", "packaging/", "tests/common/", "xtask/"];
/// The first cargo that packs packages which depend on each other before they are published.
const CARGO_MINOR_MIN: u32 = 90;

/// A package of the workspace that is to be published.
#[derive(Debug)]
struct Package {
    name: String,
    manifest: PathBuf,
}

/// Each package either says that it is not published, or has what a published one needs, and no more.
pub(crate) fn check(place: &Place) -> Outcome {
    let checked = published(place).and_then(|packages| {
        let findings: Vec<_> =
            packages.iter().map(|package| findings(place, package)).collect::<Result<_, _>>()?;
        Ok((packages, findings.concat()))
    });
    match checked {
        Err(reason) => Outcome::Failed(reason),
        Ok((packages, findings)) if findings.is_empty() => {
            let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
            println!("published: {}", names.join(", "));
            Outcome::Ok
        }
        Ok((_, findings)) => Outcome::Failed(findings.join("\n")),
    }
}

/// Compiles each package from what is packed, as its users will, in a workspace of nothing else. `cargo package` could
/// do so too, but takes the packages that one depends on from an earlier run: it unpacks a version once.
pub(crate) fn compile(place: &Place) -> Outcome {
    let version = match capture(place.cargo("--version")) {
        Ok(version) => version,
        Err(reason) => return Outcome::Failed(reason),
    };
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
    if minor.is_none_or(|minor: u32| minor < CARGO_MINOR_MIN) {
        return Outcome::Skipped(format!("{}: this takes cargo 1.{CARGO_MINOR_MIN}", version.trim()));
    }
    match (unpacked(place), place.target()) {
        (Ok(manifest), Ok(target)) => {
            let mut cargo = place.cargo("check --quiet --offline --manifest-path");
            // Where most of what comes from elsewhere has been checked before.
            cargo.arg(manifest).env("CARGO_TARGET_DIR", target);
            run(cargo)
        }
        (Err(reason), _) | (_, Err(reason)) => Outcome::Failed(reason),
    }
}

/// Packs all packages, and unpacks them side by side; the manifest of their workspace.
fn unpacked(place: &Place) -> Result<PathBuf, String> {
    let packages = published(place)?;
    let mut cargo = place.cargo("package --quiet --offline --allow-dirty --no-verify");
    for package in &packages {
        cargo.args(["--package", &package.name]);
    }
    capture(cargo)?;
    let packed = place.target()?.join("package");
    let workspace = packed.join("unpacked");
    remove(&workspace)?;
    fs::create_dir_all(&workspace).map_err(about(&workspace))?;
    let mut members = String::new();
    let mut patches = String::new();
    for Package { name, .. } in &packages {
        let directory = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(packed.join(format!("{directory}.crate"))).arg("-C").arg(&workspace);
        capture(tar)?;
        members += &format!("{directory:?}, ");
        patches += &format!("{name} = {{ path = {directory:?} }}\n");
    }
    let manifest = workspace.join("Cargo.toml");
    let text =
        format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n[patch.crates-io]\n{patches}");
    fs::write(&manifest, text).map_err(about(&manifest))?;
    // The same versions of everything else, which are there already.
    let lock = workspace.join("Cargo.lock");
    fs::copy(place.root.join("Cargo.lock"), &lock).map_err(about(&lock))?;
    Ok(manifest)
}

fn findings(place: &Place, package: &Package) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(&package.manifest).map_err(about(&package.manifest))?;
    let shown = package.manifest.strip_prefix(&place.root).unwrap_or(&package.manifest).display();
    let lacks_field = |field: &&&str| value_of(&text, field).is_none();
    let mut findings: Vec<_> = FIELDS
        .iter()
        .filter(lacks_field)
        .map(|field| format!("{shown}: no {field}, and no `publish = false`"))
        .collect();
    let listed = capture(
        place.cargo(&format!("package --list --quiet --offline --allow-dirty --package {}", package.name)),
    )?;
    let listed: Vec<_> = listed.lines().collect();
    let lacking = FILES.iter().filter(|file| !listed.contains(*file));
    findings
        .extend(lacking.map(|file| format!("{shown}: no {file} in the package: put it beside this file")));
    let foreign = listed.iter().filter(|file| FOREIGN.iter().any(|directory| file.starts_with(directory)));
    findings.extend(foreign.map(|file| format!("{shown}: {file} is in the package: see `include`")));
    Ok(findings)
}

/// All packages of the workspace without those that say that they are not published.
fn published(place: &Place) -> Result<Vec<Package>, String> {
    let mut packages = Vec::new();
    for manifest in manifests(place.cargo("metadata --format-version 1 --no-deps --offline"))? {
        let text = fs::read_to_string(&manifest).map_err(about(&manifest))?;
        let name = value_of(&text, "name").ok_or_else(|| format!("{}: no name", manifest.display()))?;
        if value_of(&text, "publish") != Some("false") {
            packages.push(Package { name: name.trim_matches('"').to_owned(), manifest });
        }
    }
    if packages.is_empty() { Err("cargo metadata names no package".to_owned()) } else { Ok(packages) }
}

/// The manifests of all packages that `cargo metadata` describes.
pub(crate) fn manifests(metadata: Command) -> Result<Vec<PathBuf>, String> {
    let described = capture(metadata)?;
    let paths = described.split(r#""manifest_path":""#).skip(1);
    Ok(paths.filter_map(|rest| Some(Path::new(rest.split_once('"')?.0).to_owned())).collect())
}

/// The value of a key of `[package]`, as it stands there; also one that is inherited: `key.workspace = true`.
pub(crate) fn value_of<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    let package = manifest.lines().skip_while(|line| line.trim() != "[package]").skip(1);
    package.take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().trim_end_matches(".workspace") == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_package() {
        let manifest = "[workspace]\nname = \"no\"\n\n[package]\nname = \"a\"\nlicense.workspace = true\n\n[lib]\npath = \"x\"\n";
        assert_eq!(value_of(manifest, "name"), Some("\"a\""));
        assert_eq!(value_of(manifest, "license"), Some("true"));
        assert_eq!(value_of(manifest, "path"), None);
        assert_eq!(value_of(manifest, "publish"), None);
    }
}
