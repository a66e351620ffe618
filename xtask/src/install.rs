//! `cargo xtask install`: builds the release, and puts under a prefix what programs, people and packagers look for.
//!
//! ```text
//! PREFIX/bin/resay
//!       /include/resay.h, resay_plugin.h, resay_plugin.hpp, resay.cdef, resay.json
//!       /LIBDIR/libresay.so -> libresay.so.1 -> libresay.so.1.0.0, libresay.a
//!              /pkgconfig/resay.pc, cmake/resay/resay-config.cmake, resay-config-version.cmake
//!       /lib/resay/plugins/libNAME.so
//!       /share/man/man1/resay.1, resay-serve.1, …
//!             /bash-completion/completions/resay, zsh/site-functions/_resay,
//!             /fish/vendor_completions.d/resay.fish
//!             /doc/resay/CHANGELOG.md, LICENSE-APACHE, LICENSE-MIT, THIRD-PARTY-NOTICES
//! ```
//!
//! Nothing in there has the prefix in it, so the tree can be moved.

mod describe;
mod libraries;
mod notices;

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::{about, files_in, remove};
use crate::place::Place;

pub(crate) use describe::{Library, PLUGIN_DIRECTORY};
pub(crate) use libraries::exported;
pub(crate) use notices::{FILE as NOTICES, linked, text as notices};

pub(crate) const USAGE: &str = "\
usage: cargo xtask install [--prefix DIR] [--libdir DIR] [--destdir DIR] [--no-strip]
  --prefix DIR   where it will live; /usr/local unless said
  --libdir DIR   where libraries go, below the prefix: lib unless said, lib/x86_64-linux-gnu for example
  --destdir DIR  put all of it below DIR instead of /, as packagers do; else DESTDIR of the environment
  --no-strip     leave symbols in";

const MODE_FILE: u32 = 0o644;
const MODE_PROGRAM: u32 = 0o755;

/// What to install, where.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Absolute.
    pub(crate) prefix: PathBuf,
    /// Below the prefix.
    pub(crate) libdir: PathBuf,
    /// Stands before the prefix.
    pub(crate) destdir: Option<PathBuf>,
    pub(crate) strip: bool,
}

impl Request {
    /// Reads the arguments of the task; `destdir` is what the environment says.
    pub(crate) fn parse(arguments: &[String], destdir: Option<PathBuf>) -> Result<Request, String> {
        let absolute = |text: &str| match std::path::absolute(text) {
            Ok(path) => Ok(path),
            Err(error) => Err(format!("{text:?}: {error}")),
        };
        let destdir = destdir.filter(|path| !path.as_os_str().is_empty());
        let mut request = Request {
            prefix: PathBuf::from("/usr/local"),
            libdir: PathBuf::from("lib"),
            destdir,
            strip: true,
        };
        let mut libdir = None;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--no-strip" {
                request.strip = false;
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), rest.next().cloned()),
            };
            let needs = || format!("{name} needs a directory");
            let value = value.filter(|value| !value.is_empty());
            match name {
                "--prefix" => request.prefix = absolute(&value.ok_or_else(needs)?)?,
                "--destdir" => request.destdir = Some(absolute(&value.ok_or_else(needs)?)?),
                "--libdir" => libdir = Some(PathBuf::from(value.ok_or_else(needs)?)),
                _ => return Err(format!("{argument:?}: no such option\n{USAGE}")),
            }
        }
        if let Some(libdir) = libdir {
            let below =
                if libdir.is_absolute() { libdir.strip_prefix(&request.prefix).ok() } else { Some(&*libdir) };
            let below =
                below.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))));
            request.libdir =
                below.filter(|path| path.components().next().is_some()).map(Path::to_owned).ok_or_else(
                    || format!("--libdir {}: is not below {}", libdir.display(), request.prefix.display()),
                )?;
        }
        Ok(request)
    }

    /// The prefix as it is now, with what stands before it.
    pub(crate) fn root(&self) -> PathBuf {
        match &self.destdir {
            Some(destdir) => destdir.join(self.prefix.strip_prefix("/").unwrap_or(&self.prefix)),
            None => self.prefix.clone(),
        }
    }
}

/// Builds and installs; what was written, in order.
pub(crate) fn install(place: &Place, request: &Request) -> Result<Vec<PathBuf>, String> {
    let (release, library_release) = build(place)?;
    let library = Library::describe(place)?;
    let root = request.root();
    let mut tree = Tree { strip: request.strip, written: Vec::new() };

    for header in ["resay.h", "resay_plugin.h", "resay_plugin.hpp", "resay.cdef", "resay.json"] {
        tree.copy(
            &place.root.join("include").join(header),
            root.join("include").join(header),
            MODE_FILE,
            &[],
        )?;
    }
    let libdir = root.join(&request.libdir);
    let shared = ["--strip-unneeded"];
    let libraries = libraries::make(place, &library_release, &library)?;
    tree.copy(&libraries.shared, libdir.join(&library.file), MODE_PROGRAM, &shared)?;
    tree.link(libdir.join(&library.soname), &library.file)?;
    tree.link(libdir.join("libresay.so"), &library.soname)?;
    tree.copy(&libraries.archive, libdir.join("libresay.a"), MODE_FILE, &shared)?;
    for (name, text) in library.texts(place, &request.libdir)? {
        tree.write(libdir.join(name), text.as_bytes())?;
    }
    for name in plugins(place)? {
        let file = format!("lib{name}.so");
        // That of TLS is the library of a package, and all others are examples of one.
        let built = release.join(&file);
        tree.copy(
            &if built.is_file() { built } else { release.join("examples").join(&file) },
            root.join(PLUGIN_DIRECTORY).join(&file),
            MODE_PROGRAM,
            &shared,
        )?;
    }

    let command = release.join("resay");
    tree.copy(&command, root.join("bin/resay"), MODE_PROGRAM, &shared)?;
    let share = root.join("share");
    for (shell, file) in [
        ("bash", "bash-completion/completions/resay"),
        ("zsh", "zsh/site-functions/_resay"),
        ("fish", "fish/vendor_completions.d/resay.fish"),
    ] {
        tree.write(share.join(file), &printed(Command::new(&command).args(["completions", shell]))?)?;
    }
    let pages = release.join("man-pages");
    // Of an older build there may be pages of commands that are no more.
    remove(&pages)?;
    printed(Command::new(&command).args(["man", "--dir"]).arg(&pages))?;
    for page in files_in(&pages)? {
        tree.copy(&page, share.join("man/man1").join(page.file_name().unwrap_or_default()), MODE_FILE, &[])?;
    }
    for text in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        tree.copy(&place.root.join(text), share.join("doc/resay").join(text), MODE_FILE, &[])?;
    }
    for unit in files_in(&place.root.join("contrib/systemd"))? {
        let text = fs::read_to_string(&unit).map_err(|error| format!("{}: {error}", unit.display()))?;
        // Where the command will live.
        let text = text.replace("/usr/bin/", &format!("{}/bin/", request.prefix.display()));
        let name = unit.file_name().unwrap_or_default();
        tree.write(share.join("doc/resay/examples/systemd").join(name), text.as_bytes())?;
    }
    tree.write(share.join("doc/resay").join(NOTICES), notices::text(place)?.as_bytes())?;
    Ok(tree.written)
}

/// Builds all that is installed, and nothing else; where it is, and where the libraries for C are. What is built already, and
/// has not changed, stays: none of this may build the engine with other features, whose files would take the place of those
/// that were there.
fn build(place: &Place) -> Result<(PathBuf, PathBuf), String> {
    // Beside a library for Rust, cargo optimizes those for C without what they link: a twentieth larger, and slower. Alone they
    // need a directory of their own, where the build of the command does not replace them.
    let libraries = place.target()?.join("libraries");
    for (what, directory) in [
        ("build --profile dist --package resay-cli --package resay-tls-file", None),
        ("build --profile dist --package resay-transforms --examples", None),
        ("rustc --profile dist --package resay --lib --crate-type cdylib,staticlib", Some(&libraries)),
    ] {
        let mut cargo = place.cargo(what);
        cargo.args(directory.iter().flat_map(|path| [OsStr::new("--target-dir"), path.as_os_str()]));
        let status = cargo.stdin(Stdio::null()).status().map_err(|error| format!("cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo {what}: {status}"));
        }
    }
    Ok((place.dist()?, libraries.join("dist")))
}

/// The names of the bundled transforms, which are plugin files too.
pub(crate) fn plugins(place: &Place) -> Result<Vec<String>, String> {
    let all = files_in(&place.root.join("plugins"))?;
    let exported = all.iter().filter(|path| path.join("export.rs").is_file());
    Ok(exported.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
}

/// What a command prints on standard output.
fn printed(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{}: {}: {complaint}", command.get_program().display(), output.status))
}

/// What is being installed. A file comes into its place whole: what runs or has mapped the old one keeps that.
struct Tree {
    strip: bool,
    written: Vec<PathBuf>,
}

impl Tree {
    /// Copies a file, stripped as `strip(1)` is told, if it is told anything.
    fn copy(&mut self, from: &Path, to: PathBuf, mode: u32, strip: &[&str]) -> Result<(), String> {
        let new = new_beside(&to)?;
        fs::copy(from, &new)
            .map_err(|error| format!("copy {} to {}: {error}", from.display(), new.display()))?;
        if self.strip && !strip.is_empty() {
            let program = std::env::var_os("STRIP").unwrap_or_else(|| "strip".into());
            match Command::new(&program).args(strip).arg(&new).status() {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(format!("{} {}: {status}", program.display(), new.display())),
                Err(error) => {
                    eprintln!("xtask: {}: {error}: nothing is stripped", program.display());
                    self.strip = false;
                }
            }
        }
        self.finish(&new, to, mode)
    }

    fn write(&mut self, to: PathBuf, bytes: &[u8]) -> Result<(), String> {
        let new = new_beside(&to)?;
        fs::write(&new, bytes).map_err(about(&new))?;
        self.finish(&new, to, MODE_FILE)
    }

    fn link(&mut self, to: PathBuf, target: &str) -> Result<(), String> {
        let new = new_beside(&to)?;
        symlink(target, &new).map_err(about(&new))?;
        fs::rename(&new, &to).map_err(about(&to))?;
        self.written.push(to);
        Ok(())
    }

    fn finish(&mut self, new: &Path, to: PathBuf, mode: u32) -> Result<(), String> {
        fs::set_permissions(new, fs::Permissions::from_mode(mode)).map_err(about(new))?;
        fs::rename(new, &to).map_err(about(&to))?;
        self.written.push(to);
        Ok(())
    }
}

/// Where a file is made ready that then takes the place of `path`; its directory is made.
fn new_beside(path: &Path) -> Result<PathBuf, String> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(about(directory))?;
    let new = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(about(&new)(error)),
        _ => Ok(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], destdir: Option<&str>) -> Result<Request, String> {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        Request::parse(&arguments, destdir.map(PathBuf::from))
    }

    #[test]
    fn destdir_stands_before_the_prefix() {
        let table: [(&[&str], Option<&str>, &str, &str); 6] = [
            (&[], None, "/usr/local", "lib"),
            (&["--prefix", "/opt/resay"], None, "/opt/resay", "lib"),
            (&["--prefix=/usr"], Some("/tmp/stage"), "/tmp/stage/usr", "lib"),
            (&["--prefix=/usr", "--destdir=/tmp/other"], Some("/tmp/stage"), "/tmp/other/usr", "lib"),
            (&["--prefix=/usr", "--libdir=lib/a-b"], Some(""), "/usr", "lib/a-b"),
            (&["--libdir", "/usr/lib64", "--prefix", "/usr"], None, "/usr", "lib64"),
        ];
        for (arguments, destdir, root, libdir) in table {
            let request = parse(arguments, destdir).unwrap();
            assert_eq!((request.root(), request.libdir), (root.into(), libdir.into()), "{arguments:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (arguments, part) in [
            (&["--prefix"][..], "--prefix needs a directory"),
            (&["--prefix="], "--prefix needs a directory"),
            (&["--nonsense", "x"], "no such option"),
            (&["--libdir=/opt/lib"], "is not below /usr/local"),
            (&["--libdir=../lib"], "is not below"),
            (&["--libdir=/usr/local"], "is not below"),
        ] {
            let error = parse(arguments, None).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
