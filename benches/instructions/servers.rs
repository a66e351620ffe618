//! The servers: how each is built, and how it is started. Those of other people are in benches/peers/servers/.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use resay::{Backend, Engine};
use tempfile::TempDir;

use crate::callgrind::Counts;
use crate::load::{Kind, Place, Workload};
use crate::result::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Resay,
    Tokio,
    Mio,
    Epoll,
}

/// As the other servers have it: bursts of datagrams wait here.
const DATAGRAM_OPTIONS: &str = "rcvbuf=4m";
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/servers");

impl Server {
    pub(crate) const ALL: [Server; 4] = [Server::Resay, Server::Tokio, Server::Mio, Server::Epoll];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Resay => "resay",
            Server::Tokio => "tokio",
            Server::Mio => "mio",
            Server::Epoll => "epoll",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Server> {
        Server::ALL.into_iter().find(|server| server.name() == name)
    }
}

/// Serves until the process is ended: one worker on epoll, `uppercase` from its library.
pub(crate) fn serve(kind: &str, place: &str) -> Result<()> {
    let url = match kind {
        "unix" => format!("unix:{place}"),
        "udp" => format!("udp://127.0.0.1:{place}?{DATAGRAM_OPTIONS}"),
        kind => format!("{kind}://127.0.0.1:{place}"),
    };
    let chain = format!("\"{}\"", target()?.join("release/examples/libuppercase.so").display());
    let builder = Engine::builder().threads(1)?.backend(Backend::Epoll);
    let _engine = builder.listen(&url)?.chain(&chain)?.start()?;
    loop {
        std::thread::park();
    }
}

/// What has been built, and what could not be.
pub(crate) struct Builds {
    /// Cargo's target directory.
    target: PathBuf,
    /// For socket files, whose names are short.
    scratch: TempDir,
    pub(crate) missing: Vec<(Server, String)>,
}

impl Builds {
    pub(crate) fn new() -> Result<Builds> {
        crate::sys::stay_on_one_processor()?;
        Ok(Builds { target: target()?, scratch: tempfile::tempdir()?, missing: Vec::new() })
    }

    /// Builds what can be built.
    pub(crate) fn build(&mut self, servers: &[Server]) -> Result<()> {
        fs::create_dir_all(self.of_peers())?;
        for &server in servers {
            let built = match server {
                Server::Resay => self.resay(),
                Server::Tokio | Server::Mio => self.rust(server.name()),
                Server::Epoll => self.c("epoll").and_then(|()| self.c("udp")),
            };
            match built {
                Err(reason) if server == Server::Resay => return Err(reason),
                Err(reason) => self.missing.push((server, reason.to_string())),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// `None`: it could not be built.
    pub(crate) fn counts(&self, server: Server, workload: &Workload) -> Result<Option<Counts>> {
        if self.missing.iter().any(|(missing, _)| *missing == server) {
            return Ok(None);
        }
        let directory = self.target.join("instructions");
        fs::create_dir_all(&directory)?;
        let scratch = self.scratch.path();
        let start = |place: &Place| self.command(server, workload.kind, place);
        Counts::take(workload, server == Server::Resay, server.name(), (&directory, scratch), &start)
            .map(Some)
    }

    fn command(&self, server: Server, kind: Kind, place: &Place) -> Result<Command> {
        let (program, arguments): (PathBuf, &[&str]) = match server {
            Server::Resay => (std::env::current_exe()?, &["serve"]),
            Server::Tokio | Server::Mio => (self.of_peers().join("rust/release").join(server.name()), &[]),
            Server::Epoll if kind == Kind::Udp => (self.of_peers().join("udp"), &["mmsg"]),
            Server::Epoll => (self.of_peers().join("epoll"), &["lt"]),
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(kind.name());
        match place {
            Place::Port(port) => command.arg(port.to_string()),
            Place::Path(path) => command.arg(path),
        };
        Ok(command)
    }

    fn of_peers(&self) -> PathBuf {
        self.target.join("peers")
    }

    fn resay(&self) -> Result<()> {
        let mut command = cargo();
        command.args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "resay-transforms",
            "--example",
            "uppercase",
            "--target-dir",
        ]);
        done(command.arg(&self.target))
    }

    /// A workspace of its own.
    fn rust(&self, name: &str) -> Result<()> {
        let mut command = cargo();
        command.args(["build", "--release", "--locked", "--quiet", "--bin", name, "--manifest-path"]);
        command.arg(Path::new(SOURCES).join("rust/Cargo.toml"));
        done(command.arg("--target-dir").arg(self.of_peers().join("rust")))
    }

    fn c(&self, name: &str) -> Result<()> {
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.args(["-std=gnu11", "-O2"]).arg(Path::new(SOURCES).join("c").join(name).with_extension("c"));
        done(command.arg("-o").arg(self.of_peers().join(name)))
    }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn done(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("error")).unwrap_or("it failed");
    Err(Box::<dyn Error>::from(format!("{program}: {line}")))
}

/// This program is in `release/deps` of it.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(3).ok_or("this program is in no target directory")?.to_owned())
}
