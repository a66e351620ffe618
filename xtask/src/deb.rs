//! `cargo xtask deb`: the Debian packages libresay1, libresay-dev and resay, by cargo-deb.
//!
//! What is in which package is said in Cargo.toml and cli/Cargo.toml, `[package.metadata.deb]`; here it is installed
//! where these take it from, and completed where cargo-deb cannot. Packages are made for this machine.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::examples::exists;
use crate::files::{about, files_in, remove};
use crate::install::{self, Library, Request};
use crate::place::Place;
use crate::report::capture;

/// The cargo-deb that is built where there is none.
const CARGO_DEB_VERSION: &str = "3.8.0";

/// Of each package: the cargo package, the variant of its metadata, and whether architectures can be installed
/// side by side.
const PACKAGES: [(&str, Option<&str>, bool); 3] =
    [("resay", Some("lib"), true), ("resay", Some("dev"), true), ("resay-cli", None, false)];

/// Nobody in particular: an address is that of whoever packages.
const MAINTAINER: &str = "The Resay authors";

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

/// Builds the tool that makes packages, if there is none, in a thread of its own.
pub(crate) fn prepare(place: &Place) -> JoinHandle<Result<PathBuf, Refusal>> {
    let place = place.clone();
    thread::spawn(move || cargo_deb(&place))
}

/// Makes the packages; their files.
pub(crate) fn packages(place: &Place, directory: &Path, size: Size) -> Result<Vec<PathBuf>, Refusal> {
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
        command.args(["--maintainer", &maintainer()]);
        command.current_dir(&place.root).stdin(Stdio::null()).stdout(Stdio::null());
        // Where the metadata's target/release is.
        command.env("CARGO_TARGET_DIR", place.target()?);
        let status = command.status().map_err(|error| format!("{}: {error}", cargo_deb.display()))?;
        if !status.success() {
            return Err(Refusal::Failed(format!("cargo deb --package {package}: {status}")));
        }
        for file in files_in(&scratch)? {
            if variant == Some("lib") {
                complete_library(place, &file, &stage)?;
            }
            let to = output.join(file.file_name().unwrap_or_default());
            // The two directories may be on different file systems.
            fs::copy(&file, &to).map_err(about(&to))?;
            made.push(to);
        }
    }
    Ok(made)
}

/// Who is packaging, as other tools of Debian are told.
fn maintainer() -> String {
    match (env::var("DEBFULLNAME"), env::var("DEBEMAIL")) {
        (Ok(name), Ok(address)) => format!("{name} <{address}>"),
        _ => MAINTAINER.to_owned(),
    }
}

/// Debian Policy 4.4: the changes of the packaging, with the time of the latest of Resay.
fn changelog(place: &Place) -> Result<String, String> {
    let mut date = Command::new("date");
    date.args(["-R", "-u", "-r", "CHANGELOG.md"]).current_dir(&place.root);
    let date = capture(date)?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "resay ({version}-1) unstable; urgency=medium\n\n  * Resay {version}: see changelog.gz.\n\n -- {}  {}\n",
        maintainer(),
        date.trim()
    ))
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
    let documents = stage.join("usr/share/doc/resay");
    let changes = documents.join("changelog.Debian");
    fs::write(&changes, changelog(place)?).map_err(about(&changes))?;
    let upstream = documents.join("changelog");
    fs::rename(documents.join("CHANGELOG.md"), &upstream).map_err(about(&upstream))?;
    // Debian Policy 12: manual pages and changes are compressed, and without the time at which that was done.
    let mut pages = files_in(&stage.join("usr/share/man/man1"))?;
    pages.extend([changes, upstream]);
    let status = Command::new("gzip").arg("-9n").args(pages).status();
    match status.map_err(|error| format!("gzip: {error}"))? {
        status if status.success() => Ok(stage),
        status => Err(format!("gzip: {status}")),
    }
}

/// Packs the library again with what Debian Policy 8 asks for and cargo-deb cannot do: what programs that link it shall
/// depend on, and no right to execute it.
fn complete_library(place: &Place, package: &Path, stage: &Path) -> Result<(), String> {
    let directory = stage.join("unpacked");
    remove(&directory)?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-R").arg(package).arg(&directory);
    capture(unpack)?;
    let names = Library::describe(place)?;
    let library = directory.join("usr/lib").join(triplet()).join(&names.file);
    fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).map_err(about(&library))?;
    let (name, abi) =
        names.soname.split_once(".so.").ok_or_else(|| format!("{}: no number", names.soname))?;
    let shlibs = directory.join("DEBIAN/shlibs");
    let line = format!("{name} {abi} {name}{abi} (>= {})\n", env!("CARGO_PKG_VERSION"));
    fs::write(&shlibs, line).map_err(about(&shlibs))?;
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-b"]).arg(&directory).arg(package);
    capture(pack).map(drop)
}

/// cargo-deb: the user's, or one that is built once and kept in the target directory.
fn cargo_deb(place: &Place) -> Result<PathBuf, Refusal> {
    if !exists("dpkg-deb") || !exists("dpkg-shlibdeps") {
        return Err(Refusal::Missing("dpkg-deb and dpkg-shlibdeps (dpkg-dev) are not installed".to_owned()));
    }
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
