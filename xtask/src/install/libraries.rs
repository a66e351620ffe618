//! The libraries for C as they are installed: of them nothing can be seen but the interface.
//!
//! The archive that rustc makes has the standard library of Rust in it, and every function of both is global. Two such
//! archives in one program clash (`rust_eh_personality` is defined twice), and a shared library with one in it exports
//! thousands of names, which another one's then replace: of two copies each has half. So what the interface needs becomes
//! one object, in which all other names are local:
//!
//! ```text
//! libresay.a of rustc --ld -r--> resay.o --objcopy--> resay.o --ar--> libresay.a
//!                                                        '-----cc -shared----> libresay.so
//! ```
//!
//! The shared library is linked anew because rustc gives the linker a version script of its own, without versions, and
//! two cannot be combined.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::describe::{Library, private_libraries};
use crate::files::about;
use crate::place::Place;

/// The files to install.
pub(super) struct Libraries {
    pub(super) shared: PathBuf,
    pub(super) archive: PathBuf,
}

/// Makes both out of the archive in `release`, the directory of the build.
pub(super) fn make(place: &Place, release: &Path, names: &Library) -> Result<Libraries, String> {
    let directory = release.join("installed");
    fs::create_dir_all(&directory).map_err(about(&directory))?;
    let interface = exported(&release.join("libresay.so"))?;
    let list = directory.join("interface");
    fs::write(&list, interface.join("\n") + "\n").map_err(about(&list))?;

    let object = directory.join("resay.o");
    let mut link = tool("LD", "ld");
    // Groups, of which the linker keeps one of each name, would drop those of another Rust that is linked too, where
    // the names in them are local by then.
    link.args(["-r", "--force-group-allocation", "--gc-sections"]);
    link.args(interface.iter().flat_map(|name| ["-u", name]));
    finish(link.arg("-o").arg(&object).arg(release.join("libresay.a")))?;
    let mut localize = tool("OBJCOPY", "objcopy");
    localize.arg(format!("--keep-global-symbols={}", list.display()));
    // Bitcode, which only a link-time optimization by the same compiler could use.
    localize.args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"]);
    finish(localize.arg(&object))?;

    let archive = directory.join("libresay.a");
    match fs::remove_file(&archive) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(about(&archive)(error)),
        _ => {}
    }
    finish(tool("AR", "ar").arg("crsD").arg(&archive).arg(&object))?;
    let shared = directory.join("libresay.so");
    let script = place.root.join("packaging/libresay.map");
    let mut link = tool("CC", "cc");
    link.arg("-shared").arg("-o").arg(&shared).arg(&object);
    link.arg(format!("-Wl,-soname,{}", names.soname));
    link.arg(format!("-Wl,--version-script={}", script.display()));
    link.arg("-Wl,--gc-sections,--as-needed,--no-undefined,-O1,-z,relro,-z,now,-z,noexecstack");
    finish(link.args(private_libraries(place)?))?;
    Ok(Libraries { shared, archive })
}

/// What a shared library exports, without versions.
pub(crate) fn exported(library: &Path) -> Result<Vec<String>, String> {
    let mut command = tool("NM", "nm");
    command.args(["-D", "--defined-only", "--format=posix"]).arg(library).stdin(Stdio::null());
    let output = command.output().map_err(|error| missing(&command, &error))?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<_> =
        listed.lines().filter_map(|line| line.split([' ', '@']).next()).map(str::to_owned).collect();
    if output.status.success() && !names.is_empty() {
        return Ok(names);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{}: no symbols: {complaint}", library.display()))
}

/// The tool that the environment names, as for make(1).
fn tool(variable: &str, usual: &str) -> Command {
    let mut command = Command::new(env::var_os(variable).unwrap_or_else(|| usual.into()));
    command.env("LC_ALL", "C");
    command
}

fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| missing(command, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{}: {}: {complaint}", command.get_program().display(), output.status))
}

fn missing(command: &Command, error: &std::io::Error) -> String {
    format!(
        "{}: {error} (the libraries are made with binutils and a C compiler)",
        command.get_program().display()
    )
}
