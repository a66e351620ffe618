//! `cargo xtask deb`: the Debian packages libresay1, libresay-dev and resay, by cargo-deb.
//!
//! What is in which package is said in Cargo.toml and cli/Cargo.toml, `[package.metadata.deb]`; here it is installed
//! where these take it from. Packages are made for this machine.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::examples::exists;
use crate::files::{about, files_in, remove};
use crate::install::{self, Request};
use crate::place::Place;

/// The cargo-deb that is built where there is none.
const CARGO_DEB_VERSION: &str = "3.8.0";

/// Of each package: the cargo package, the variant of its metadata, and whether architectures can be installed
/// side by side.
const PACKAGES: [(&str, Option<&str>, bool); 3] =
    [("resay", Some("lib"), true), ("resay", Some("dev"), true), ("resay-cli", None, false)];

/// Why there are no packages.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This is no machine for it.
    Missing(String),
    Failed(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal::Failed(reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing(reason) | Refusal::Failed(reason) => f.write_str(reason),
        }
    }
}

/// The name that Debian gives to this machine's directory of libraries.
pub(crate) fn triplet() -> String {
    let (architecture, environment) =
        (env::consts::ARCH, if cfg!(target_env = "gnu") { "gnu" } else { "musl" });
    match architecture {
        "x86" => format!("i386-linux-{environment}"),
        "arm" => format!("arm-linux-{environment}eabihf"),
        "powerpc64" if cfg!(target_endian = "little") => format!("powerpc64le-linux-{environment}"),
        other => format!("{other}-linux-{environment}"),
    }
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    /// Made in a third of the time.
    Large,
}

/// Makes the packages; their files.
pub(crate) fn packages(place: &Place, directory: &Path, size: Size) -> Result<Vec<PathBuf>, Refusal> {
    if !exists("dpkg-deb") || !exists("dpkg-shlibdeps") {
        return Err(Refusal::Missing("dpkg-deb and dpkg-shlibdeps (dpkg-dev) are not installed".to_owned()));
    }
    let cargo_deb = cargo_deb(place)?;
    let stage = stage(place)?;
    let output = std::path::absolute(directory).map_err(about(directory))?;
    fs::create_dir_all(&output).map_err(about(&output))?;
    let mut made = Vec::new();
    for (package, variant, side_by_side) in PACKAGES {
        // Into a directory of its own first, which then has the one file in it.
        let scratch = stage.join("made");
        remove(&scratch)?;
        fs::create_dir_all(&scratch).map_err(about(&scratch))?;
        let mut command = Command::new(&cargo_deb);
        // Built and stripped is what was installed.
        command.args(["--no-build", "--no-strip", "--package", package, "--output"]).arg(&scratch);
        if let Some(variant) = variant {
            command.args(["--variant", variant]);
        }
        if side_by_side {
            command.args(["--multiarch", "same"]);
        }
        if size == Size::Large {
            command.arg("--fast");
        }
        // As other tools of Debian are told who is packaging.
        if let (Ok(name), Ok(address)) = (env::var("DEBFULLNAME"), env::var("DEBEMAIL")) {
            command.args(["--maintainer", &format!("{name} <{address}>")]);
        }
        command.current_dir(&place.root).stdin(Stdio::null()).stdout(Stdio::null());
        // Where the metadata's target/release is.
        command.env("CARGO_TARGET_DIR", place.target()?);
        let status = command.status().map_err(|error| format!("{}: {error}", cargo_deb.display()))?;
        if !status.success() {
            return Err(Refusal::Failed(format!("cargo deb --package {package}: {status}")));
        }
        for file in files_in(&scratch)? {
            let to = output.join(file.file_name().unwrap_or_default());
            // The two directories may be on different file systems.
            fs::copy(&file, &to).map_err(about(&to))?;
            made.push(to);
        }
    }
    Ok(made)
}

/// Installs into `target/release/package`, beside which `libdir` stands for the directory of libraries.
fn stage(place: &Place) -> Result<PathBuf, String> {
    let stage = place.release()?.join("package");
    remove(&stage)?;
    let libdir = PathBuf::from("lib").join(triplet());
    let request = Request {
        prefix: PathBuf::from("/usr"),
        libdir: libdir.clone(),
        destdir: Some(stage.clone()),
        strip: true,
    };
    install::install(place, &request)?;
    let link = stage.join("libdir");
    symlink(Path::new("usr").join(libdir), &link).map_err(about(&link))?;
    // Debian Policy 12.1: manual pages are compressed, and without the time at which that was done.
    let pages = files_in(&stage.join("usr/share/man/man1"))?;
    let status = Command::new("gzip").arg("-9n").args(pages).status();
    match status.map_err(|error| format!("gzip: {error}"))? {
        status if status.success() => Ok(stage),
        status => Err(format!("gzip: {status}")),
    }
}

/// cargo-deb: the user's, or one that is built once and kept in the target directory.
fn cargo_deb(place: &Place) -> Result<PathBuf, Refusal> {
    if exists("cargo-deb") {
        return Ok(PathBuf::from("cargo-deb"));
    }
    let tools = place.target()?.join("tools");
    let program = tools.join("bin/cargo-deb");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("xtask: building cargo-deb {CARGO_DEB_VERSION} into {}", tools.display());
    let mut cargo = place.cargo("install cargo-deb --locked --no-default-features --quiet --version");
    cargo.arg(CARGO_DEB_VERSION).arg("--root").arg(&tools);
    // It packs a few megabytes: building it must not take longer than that.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    cargo.env("CARGO_TARGET_DIR", tools.join("build")).stdin(Stdio::null());
    let status = cargo.status().map_err(|error| format!("cargo install: {error}"))?;
    remove(&tools.join("build"))?;
    if !status.success() {
        return Err(Refusal::Missing(format!("cargo-deb is not installed, and cargo install: {status}")));
    }
    Ok(program)
}
