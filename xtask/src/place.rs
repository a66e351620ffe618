//! Where things are: the workspace, and what cargo has built.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace, and the directory of what is built.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Where `cargo build` puts libraries and programs: this program's own directory.
    pub(crate) built: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Place, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace above xtask")?;
        let program = std::env::current_exe().map_err(|error| format!("where am I: {error}"))?;
        let built = program.parent().ok_or("this program is in no directory")?;
        Ok(Place { root: root.to_owned(), built: built.to_owned() })
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> Result<&Path, String> {
        self.built.parent().ok_or_else(|| format!("{} is in no directory", self.built.display()))
    }

    /// Where `cargo build --profile dist` puts libraries and programs.
    pub(crate) fn dist(&self) -> Result<PathBuf, String> {
        Ok(self.target()?.join("dist"))
    }

    /// Where `cargo build --release` puts them, and where `cargo deb` looks.
    pub(crate) fn release(&self) -> Result<PathBuf, String> {
        Ok(self.target()?.join("release"))
    }

    /// `cargo` with arguments, as of the toolchain that built this.
    pub(crate) fn cargo(&self, arguments: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        command
    }

    /// `rustc`, of the same.
    pub(crate) fn rustc(&self) -> Command {
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command.current_dir(&self.root);
        command
    }

    /// Whether `cargo NAME` exists.
    pub(crate) fn has_cargo(&self, name: &str) -> bool {
        let version = self.cargo(&format!("{name} --version")).output();
        version.is_ok_and(|output| output.status.success())
    }
}

/// Why io_uring cannot be had here, if the kernel has been told to refuse it (io_uring_setup(2)).
pub(crate) fn uring_refusal() -> Option<String> {
    match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(value) if value.trim() == "0" => None,
        Ok(value) => Some(format!("kernel.io_uring_disabled is {}", value.trim())),
        Err(_) => Some("this kernel has no io_uring that resay could use".to_owned()),
    }
}
