//! What an installed library says of itself to the linker, to pkg-config and to CMake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::about;
use crate::place::Place;

/// Below the prefix, whatever the libdir is: the engine looks there from the command's own directory.
pub(crate) const PLUGIN_DIRECTORY: &str = "lib/resay/plugins";

/// The names of the shared library, and the versions behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    /// Of the package: `0.1.0`.
    pub(crate) version: &'static str,
    /// What the file is called: `libresay.so.1.0.0`.
    pub(crate) file: String,
    /// What programs look for: `libresay.so.1`.
    pub(crate) soname: String,
}

impl Library {
    /// The version of the library is the one that cargo-c is told in Cargo.toml. Its first number is the ABI's, which
    /// the header says and the SONAME in build.rs comes from.
    pub(crate) fn describe(place: &Place) -> Result<Library, String> {
        let read = |file: &str| {
            let path = place.root.join(file);
            fs::read_to_string(&path).map_err(about(&path))
        };
        let version = library_version(&read("Cargo.toml")?)
            .ok_or("Cargo.toml: [package.metadata.capi.library] has no version = \"A.B.C\"")?;
        let abi = version.split('.').next().unwrap_or_default();
        if !read("include/resay.h")?.lines().any(|line| line == format!("#define RESAY_ABI {abi}u")) {
            return Err(format!("Cargo.toml: the library's version {version} does not begin with RESAY_ABI"));
        }
        Ok(Library {
            version: env!("CARGO_PKG_VERSION"),
            soname: format!("libresay.so.{abi}"),
            file: format!("libresay.so.{version}"),
        })
    }

    /// The files that describe the library, with their paths below `libdir`, which is below the prefix.
    pub(crate) fn texts(&self, place: &Place, libdir: &Path) -> Result<[(&'static str, String); 3], String> {
        let private = private_libraries(place)?;
        let mut version = self.version.split('.');
        let mut part = || version.next().unwrap_or_default().to_owned();
        let depth = libdir.components().count();
        let values = [
            ("UP_FROM_PKGCONFIG", up(depth + 1)),
            ("UP_FROM_CMAKE", up(depth + 2)),
            ("LIBDIR", libdir.display().to_string()),
            ("PLUGINDIR", PLUGIN_DIRECTORY.to_owned()),
            ("LIBRARY_FILE", self.file.clone()),
            ("SONAME", self.soname.clone()),
            ("PRIVATE_LIBS", private.join(" ")),
            ("PRIVATE_LIBS_LIST", private.join(";")),
            ("VERSION", self.version.to_owned()),
            ("VERSION_MAJOR", part()),
            ("VERSION_MINOR", part()),
            ("POINTER_BYTES", size_of::<usize>().to_string()),
            ("POINTER_BITS", usize::BITS.to_string()),
        ];
        let text = |template: &str| {
            let path = place.root.join("packaging").join(template);
            fill(&fs::read_to_string(&path).map_err(about(&path))?, &values)
                .map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok([
            ("pkgconfig/resay.pc", text("resay.pc.in")?),
            ("cmake/resay/resay-config.cmake", text("resay-config.cmake.in")?),
            ("cmake/resay/resay-config-version.cmake", text("resay-config-version.cmake.in")?),
        ])
    }
}

/// The version in `[package.metadata.capi.library]`.
fn library_version(manifest: &str) -> Option<String> {
    let section = manifest.split_once("\n[package.metadata.capi.library]\n")?.1;
    let mut lines = section.lines().take_while(|line| !line.starts_with('['));
    let version = lines.find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))?;
    let numbers: Vec<_> = version.split('.').collect();
    (numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok()))
        .then(|| version.to_owned())
}

fn up(levels: usize) -> String {
    vec![".."; levels].join("/")
}

/// Puts the values where the template says `@NAME@`.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    match text.split_once('@') {
        Some((before, _)) => {
            Err(format!("line {}: a name that nothing stands for", before.matches('\n').count() + 1))
        }
        None => Ok(text),
    }
}

/// The libraries of the system that the archive needs, as linker flags: what the compiler says of an archive of the
/// standard library, which is all that Resay needs too.
pub(super) fn private_libraries(place: &Place) -> Result<Vec<String>, String> {
    let archive = place.built.join("native-static-libs.a");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(&rustc);
    command.args([
        "--crate-type",
        "staticlib",
        "--crate-name",
        "nothing",
        "--print",
        "native-static-libs",
        "-o",
    ]);
    command.arg(&archive).arg("-").current_dir(&place.root).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{}: {error}", rustc.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It is of no use to anybody.
    fs::remove_file(&archive).map_err(about(&archive))?;
    needed(&said)
        .ok_or_else(|| format!("{} --print native-static-libs says: {said}", PathBuf::from(&rustc).display()))
}

/// The flags in the compiler's note, each once. The C compiler adds its own libgcc and libc, in the form that fits:
/// with -static there is no libgcc_s.
fn needed(note: &str) -> Option<Vec<String>> {
    let list = note.lines().find_map(|line| line.split_once("native-static-libs:"))?.1;
    let mut flags: Vec<String> = Vec::new();
    for flag in list.split_whitespace().filter(|flag| !matches!(*flag, "-lgcc_s" | "-lc")) {
        if !flags.iter().any(|known| known == flag) {
            flags.push(flag.to_owned());
        }
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_library_is_in_its_section() {
        let manifest =
            |text: &str| format!("[package]\nversion = \"9.9.9\"\n\n{text}\n[lints]\nversion = \"8.8.8\"\n");
        let section = "[package.metadata.capi.library]\nname = \"resay\"\nversion = \"1.2.3\"\n";
        assert_eq!(library_version(&manifest(section)).as_deref(), Some("1.2.3"));
        assert_eq!(library_version(&manifest("")), None);
        assert_eq!(library_version(&manifest(&section.replace("1.2.3", "1.2"))), None);
        assert_eq!(library_version(&manifest("[package.metadata.capi.library]\n")), None);
    }

    #[test]
    fn templates_have_no_name_that_nothing_stands_for() {
        let values = [("A", "1".to_owned()), ("AB", "2".to_owned())];
        assert_eq!(fill("@A@ @AB@", &values).as_deref(), Ok("1 2"));
        assert_eq!(fill("\n@A@\nx @C@", &values).unwrap_err(), "line 3: a name that nothing stands for");
    }

    #[test]
    fn the_compiler_s_own_libraries_are_left_to_it() {
        let note = "note: link against …\n\nnote: native-static-libs: -lgcc_s -lutil -lm -ldl -lm -lc\n";
        assert_eq!(needed(note).unwrap(), ["-lutil", "-lm", "-ldl"]);
        assert_eq!(needed("error: no"), None);
    }
}
