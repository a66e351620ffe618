//! `cargo xtask peers`: builds other people's echo servers and the comparison, and runs it.
//!
//! What it needs and does not find is left out, with the reason, here and on the page. Nothing is installed unless
//! `--install` says so, but packages of Rust and Python, which stay in the target directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::place::Place;

const SOURCES: &str = "benches/peers/servers";

/// A program in C, and the package of pkg-config that it needs.
const IN_C: [(&str, Option<&str>); 5] = [
    ("epoll", None),
    ("udp", None),
    ("uring", Some("liburing")),
    ("libuv", Some("libuv")),
    ("libevent", Some("libevent_core")),
];
const IN_RUST: [&str; 4] = ["tokio", "mio", "monoio", "compio"];
const C_FLAGS: [&str; 5] = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"];

/// How Debian calls what is needed; `--install` asks for all.
const PACKAGES: [&str; 15] = [
    "gcc",
    "golang-go",
    "haproxy",
    "libevent-dev",
    "libnginx-mod-stream",
    "libnginx-mod-stream-js",
    "liburing-dev",
    "libuv1-dev",
    "linux-perf",
    "ncat",
    "nginx-light",
    "nodejs",
    "pkg-config",
    "python3-venv",
    "socat",
];

/// Builds and runs. `arguments` are the runner's, and `--install`.
pub(crate) fn run(place: &Place, arguments: &[String]) -> ExitCode {
    match build_and_run(place, arguments) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("xtask peers: {reason}");
            ExitCode::from(2)
        }
    }
}

fn build_and_run(place: &Place, arguments: &[String]) -> Result<ExitCode, String> {
    let (installs, rest): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| *argument == "--install");
    let is_help = rest.iter().any(|argument| ["-h", "--help"].contains(&argument.as_str()));
    if !installs.is_empty() && !is_help {
        install()?;
    }
    let target = place.built.parent().ok_or("the target directory has no parent")?;
    let yard = Yard { sources: place.root.join(SOURCES), built: target.join("peers") };
    fs::create_dir_all(&yard.built).map_err(|error| format!("{}: {error}", yard.built.display()))?;
    for ours in ["--package resay-peers", "--package resay-transforms --example uppercase"] {
        let mut cargo = place.cargo(&format!("build --release {ours}"));
        finished(cargo.stdin(Stdio::null()).status(), "cargo build")?;
    }
    if !is_help {
        let missing = yard.build(place);
        let mut text = String::new();
        for (name, reason) in &missing {
            println!("{name} is not built: {reason}");
            text.push_str(&format!("{name}\t{reason}\n"));
        }
        fs::write(yard.built.join("missing"), text).map_err(|error| error.to_string())?;
    }
    let mut runner = Command::new(target.join("release/peers"));
    if !is_help {
        runner.arg("run").arg(&yard.built).args(rest).current_dir(&place.root);
    }
    let status = runner.stdin(Stdio::null()).status().map_err(|error| format!("the runner: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where servers are built.
struct Yard {
    sources: PathBuf,
    built: PathBuf,
}

impl Yard {
    /// Builds what can be built. What could not be, and why.
    fn build(&self, place: &Place) -> Vec<(&'static str, String)> {
        let mut missing = Vec::new();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        for (name, package) in IN_C {
            if let Err(reason) = self.compile(&compiler, name, package) {
                missing.push((name, reason));
            }
        }
        if let Err(reason) = self.go() {
            missing.push(("go-echo", reason));
        }
        if let Err(reason) = self.rust(place) {
            missing.extend(IN_RUST.map(|name| (name, reason.clone())));
        }
        if let Err(reason) = self.python() {
            missing.push(("venv", reason));
        }
        missing
    }

    fn compile(&self, compiler: &str, name: &str, package: Option<&str>) -> Result<(), String> {
        let output = self.built.join(name);
        let mut command = Command::new(compiler);
        command
            .args(C_FLAGS)
            .arg(self.sources.join("c").join(name).with_extension("c"))
            .arg("-o")
            .arg(&output);
        if let Some(package) = package {
            let flags = said(Command::new("pkg-config").args(["--cflags", "--libs", package]))?;
            command.args(flags.split_whitespace());
        }
        let built = said(&mut command).map(drop);
        if built.is_err() {
            // An old one is not what was asked for.
            let _ = fs::remove_file(output);
        }
        built
    }

    fn go(&self) -> Result<(), String> {
        let mut command = Command::new("go");
        command.args(["build", "-buildvcs=false", "-o"]).arg(self.built.join("go-echo")).arg(".");
        said(command.current_dir(self.sources.join("go")).env("GOFLAGS", "").env("GOPROXY", "off")).map(drop)
    }

    /// A workspace of its own, so that nobody else builds these runtimes.
    fn rust(&self, place: &Place) -> Result<(), String> {
        let directory = self.built.join("rust");
        let mut command = place.cargo("build --release --locked --quiet --manifest-path");
        command.arg(self.sources.join("rust/Cargo.toml")).arg("--target-dir").arg(&directory);
        said(&mut command)?;
        for name in IN_RUST {
            copied(&directory.join("release").join(name), &self.built.join(name))?;
        }
        Ok(())
    }

    /// An environment of our own with uvloop.
    fn python(&self) -> Result<(), String> {
        let directory = self.built.join("venv");
        let python = directory.join("bin/python");
        let has_uvloop = || said(Command::new(&python).args(["-c", "import uvloop"])).is_ok();
        if has_uvloop() {
            return Ok(());
        }
        said(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        // Without it asyncio is still there: the runner says who is missing.
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uvloop"];
        if let Err(reason) = said(Command::new(&python).args(pip)) {
            println!("uvloop could not be installed: {reason}");
        }
        Ok(())
    }
}

/// Runs to its end: what it wrote, or the last that it said about why not.
fn said(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{program} is not installed"));
        }
        result => result.map_err(|error| format!("{program}: {error}"))?,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.contains("error")).or_else(|| lines().next());
    Err(format!("{program}: {}", line.unwrap_or("it failed and said nothing")))
}

fn copied(from: &Path, to: &Path) -> Result<(), String> {
    // A program that is running can be replaced, but not written to.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}

/// By apt-get, which asks for the rights that it needs. It may start the services that packages bring.
fn install() -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES);
    finished(
        command.stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive").status(),
        "apt-get install",
    )
}

fn finished(status: io::Result<std::process::ExitStatus>, what: &str) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
