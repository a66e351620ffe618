//! The servers: which there are, how one is started as a process of its own, and how it is ended.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use resay::Backend;

use crate::{server_epoll, server_resay, server_tokio, sys};

/// An echo server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// tokio with the 4 KiB buffers that its examples have.
    Tokio,
    /// tokio with 64 KiB buffers: what its users do about bulk.
    Tokio64k,
    /// By hand.
    Epoll,
    /// Resay, plain echo.
    Resay,
    /// Resay over io_uring, plain echo.
    ResayUring,
    /// Resay with `uppercase` from its shared library.
    ResayUppercase,
}

impl Server {
    /// The one that ratios are against comes first.
    pub(crate) const ALL: [Server; 6] = [
        Server::Tokio,
        Server::Tokio64k,
        Server::Epoll,
        Server::Resay,
        Server::ResayUring,
        Server::ResayUppercase,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Tokio => "tokio",
            Server::Tokio64k => "tokio-64k",
            Server::Epoll => "epoll",
            Server::Resay => "resay",
            Server::ResayUring => "resay-uring",
            Server::ResayUppercase => "resay-uppercase",
        }
    }

    /// Whether answers are in capitals.
    pub(crate) fn shouts(self) -> bool {
        self == Server::ResayUppercase
    }

    /// Why it cannot run here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Server::ResayUring => server_resay::missing_uring(),
            Server::ResayUppercase => server_resay::uppercase_library().err().map(|error| error.to_string()),
            _ => None,
        }
    }

    /// Serves in this process, pinned; the end of standard input ends it.
    pub(crate) fn serve(self, core: usize) -> Result<(), Box<dyn Error>> {
        sys::pin(core)?;
        sys::raise_descriptor_limit()?;
        if !matches!(self, Server::Resay | Server::ResayUring | Server::ResayUppercase) {
            std::thread::spawn(|| {
                // Whether the input ended or failed, nobody is there any more.
                let _ = wait_for_the_end();
                std::process::exit(0);
            });
        }
        match self {
            Server::Tokio => server_tokio::serve(4096)?,
            Server::Tokio64k => server_tokio::serve(64 * 1024)?,
            Server::Epoll => server_epoll::serve()?,
            Server::Resay => server_resay::serve("", Backend::Epoll)?,
            Server::ResayUring => server_resay::serve("", Backend::Uring)?,
            Server::ResayUppercase => {
                let library = server_resay::uppercase_library()?;
                server_resay::serve(&format!("\"{}\"", library.display()), Backend::Epoll)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(name: &str) -> Result<Server, String> {
        Server::ALL.into_iter().find(|server| server.name() == name).ok_or_else(|| {
            let names = Server::ALL.map(Server::name).join(", ");
            format!("there is no server {name:?}; there are {names}")
        })
    }
}

/// Says where this server listens: one line on standard output, which the parent waits for.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{address}")?;
    out.flush()
}

/// Returns when the parent has closed our standard input.
pub(crate) fn wait_for_the_end() -> io::Result<()> {
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A server in a process of its own; it ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts `server` on `core`, and returns when it listens.
    pub(crate) fn start(server: Server, core: usize) -> Result<Running, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", server.name(), &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the server has no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        match line.trim().parse() {
            Ok(address) => Ok(Running { child, address }),
            Err(_) => {
                let status = child.wait()?;
                Err(format!("the server {server} did not start: {status}").into())
            }
        }
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu_time_ns(&self) -> io::Result<u64> {
        sys::cpu_time_ns(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
