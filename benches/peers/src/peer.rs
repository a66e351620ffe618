//! The servers: which there are, and how each is started. All bind the loopback only.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;
use crate::server_resay::{self, Variant};
use crate::workload::{Kind, Shape, Workload};

/// A process a connection: more than so many take longer to start than all else takes.
const PROCESSES_MAX: usize = 100;
/// ncat lets ten connections wait; those that come at once beyond that are tried again after a second.
const NCAT_AT_ONCE_MAX: usize = 8;
/// What a server needs besides those of its connections.
const DESCRIPTORS_SPARE: u64 = 1000;

/// An echo server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// What it is, in a line.
    pub(crate) about: &'static str,
    kinds: &'static [Kind],
    program: Program,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Resay,
    /// As little as it takes, written for this comparison.
    ByHand,
    /// What people use.
    Community,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// This program, serving with the engine's public interface.
    Resay(Variant),
    /// What xtask has built, with arguments before the kind and the place, and how its version is found.
    Built {
        file: &'static str,
        arguments: &'static [&'static str],
        version: Version,
    },
    /// `echo.py` in the private environment.
    Python(&'static str),
    Node,
    Nginx,
    Haproxy,
    Socat,
    Ncat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Of a C library, by pkg-config.
    Library(&'static str),
    /// Of a package in the lock file of the servers in Rust.
    Crate(&'static str),
    /// Of the compiler.
    Go,
    None,
}

/// Where the pieces are.
#[derive(Debug)]
pub(crate) struct Setting {
    /// What xtask has built; `missing` in it says what it could not, and why.
    pub(crate) built: PathBuf,
    /// The sources of the servers.
    pub(crate) sources: PathBuf,
    pub(crate) descriptors_max: u64,
}

const GO: &str = "go-echo";
const STREAMS: &[Kind] = &[Kind::Tcp, Kind::Unix];
const ALL_KINDS: &[Kind] = &[Kind::Tcp, Kind::Unix, Kind::Udp];
const DATAGRAMS: &[Kind] = &[Kind::Udp];

impl Peer {
    pub(crate) const ALL: &[Peer] = &[
        Peer::resay("resay", "as it comes, `identity`", ALL_KINDS, Variant::Auto),
        Peer::resay("resay-upper", "as it comes, `uppercase` from its .so", ALL_KINDS, Variant::Uppercase),
        Peer::resay("resay-epoll", "`--backend epoll`, `identity`", ALL_KINDS, Variant::Epoll),
        Peer::resay("resay-uring", "`--backend uring`, `identity`", ALL_KINDS, Variant::Uring),
        Peer::by_hand("epoll", "epoll", &["lt"], STREAMS, "C: one buffer, one read and one write an event"),
        Peer::by_hand("epoll-et", "epoll", &["et"], STREAMS, "C: the same, edge-triggered"),
        Peer::by_hand(
            "uring",
            "uring",
            &[],
            STREAMS,
            "C: multishot, ring-mapped buffers, answers sent from them",
        ),
        Peer::by_hand("udp-plain", "udp", &["plain"], DATAGRAMS, "C: recvfrom and sendto"),
        Peer::by_hand("udp-mmsg", "udp", &["mmsg"], DATAGRAMS, "C: recvmmsg and sendmmsg"),
        Peer::by_hand("udp-gro", "udp", &["gro"], DATAGRAMS, "C: UDP_GRO and UDP_SEGMENT"),
        Peer::rust("tokio", "tokio", &[], ALL_KINDS, "Rust: a task a connection, 4 KiB in it"),
        Peer::rust("tokio-64k", "tokio", &["65536"], STREAMS, "the same with 64 KiB"),
        Peer::rust("mio", "mio", &[], ALL_KINDS, "Rust: an event loop, edge-triggered, one buffer"),
        Peer::rust("monoio", "monoio", &[], ALL_KINDS, "Rust, io_uring: a task a connection, 8 KiB in it"),
        Peer::rust("compio", "compio", &[], ALL_KINDS, "Rust, io_uring: a task a connection, 8 KiB in it"),
        Peer::c("libuv", "C: one buffer, `uv_try_write`, what is left queued"),
        Peer::c("libevent", "C: a bufferevent a connection"),
        Peer::go("go", &["buffer"], ALL_KINDS, "a goroutine a connection, 16 KiB in it"),
        Peer::go("go-copy", &["copy"], STREAMS, "the same with `io.Copy`"),
        Peer::community("node", ALL_KINDS, "a socket piped into itself", Program::Node),
        Peer::community("uvloop", ALL_KINDS, "Python: a Protocol", Program::Python("uvloop")),
        Peer::community("asyncio", ALL_KINDS, "Python: a Protocol", Program::Python("asyncio")),
        Peer::community("nginx-njs", STREAMS, "a stream filter in njs, its upstream silent", Program::Nginx),
        Peer::community(
            "haproxy-lua",
            STREAMS,
            "a Lua service that knows the messages' size",
            Program::Haproxy,
        ),
        Peer::community("socat", ALL_KINDS, "`fork`, `PIPE`: a process a connection", Program::Socat),
        Peer::community("ncat", ALL_KINDS, "`-k -e /bin/cat`: processes for each connection", Program::Ncat),
    ];

    const fn resay(
        name: &'static str,
        about: &'static str,
        kinds: &'static [Kind],
        variant: Variant,
    ) -> Peer {
        Peer { name, family: Family::Resay, about, kinds, program: Program::Resay(variant) }
    }

    const fn by_hand(
        name: &'static str,
        file: &'static str,
        arguments: &'static [&'static str],
        kinds: &'static [Kind],
        about: &'static str,
    ) -> Peer {
        let program = Program::Built { file, arguments, version: Version::None };
        Peer { name, family: Family::ByHand, about, kinds, program }
    }

    const fn rust(
        name: &'static str,
        file: &'static str,
        arguments: &'static [&'static str],
        kinds: &'static [Kind],
        about: &'static str,
    ) -> Peer {
        let version = Version::Crate(file);
        Peer::community(name, kinds, about, Program::Built { file, arguments, version })
    }

    const fn c(name: &'static str, about: &'static str) -> Peer {
        let version = Version::Library(name);
        Peer::community(name, ALL_KINDS, about, Program::Built { file: name, arguments: &[], version })
    }

    const fn go(
        name: &'static str,
        how: &'static [&'static str],
        kinds: &'static [Kind],
        about: &'static str,
    ) -> Peer {
        let program = Program::Built { file: GO, arguments: how, version: Version::Go };
        Peer::community(name, kinds, about, program)
    }

    const fn community(
        name: &'static str,
        kinds: &'static [Kind],
        about: &'static str,
        program: Program,
    ) -> Peer {
        Peer { name, family: Family::Community, about, kinds, program }
    }

    /// Whether answers are in capitals.
    pub(crate) fn shouts(&self) -> bool {
        matches!(self.program, Program::Resay(Variant::Uppercase))
    }

    pub(crate) fn serves(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Why it does not take part in this workload, if it does not; `Some("")`: it has no such sockets.
    pub(crate) fn refuses(&self, workload: &Workload) -> Option<&'static str> {
        if !self.serves(workload.kind) {
            return Some("");
        }
        let (at_once_max, reason) = match self.program {
            Program::Socat => (PROCESSES_MAX, "a process for each"),
            Program::Ncat => (NCAT_AT_ONCE_MAX, "it lets ten connections wait"),
            _ => return None,
        };
        let is_burst = matches!(workload.shape, Shape::Datagrams { window: 2.., .. });
        (is_burst || workload.connections() > at_once_max).then_some(reason)
    }

    /// With how many idle connections its memory is measured, of so many that were asked for.
    pub(crate) fn idle_connections(&self, setting: &Setting, asked: usize) -> usize {
        let descriptors = setting.descriptors_max.saturating_sub(DESCRIPTORS_SPARE) as usize;
        match self.program {
            Program::Socat | Program::Ncat => asked.min(PROCESSES_MAX),
            // Both ends of its upstream.
            Program::Nginx => asked.min(descriptors / 3),
            // A pipe for splice(2).
            Program::Built { file: GO, arguments: ["copy"], .. } => asked.min(descriptors / 3),
            _ => asked.min(descriptors),
        }
    }

    /// Why it cannot run here, if it cannot.
    pub(crate) fn missing(&self, setting: &Setting) -> Option<String> {
        match self.program {
            Program::Resay(variant) => server_resay::missing(variant),
            Program::Built { file, .. } => setting.not_built(file),
            Program::Python(module) => setting.not_built("venv").or_else(|| {
                let mut python = Command::new(setting.python());
                let found = python.args(["-c", &format!("import {module}")]).output();
                let works = found.is_ok_and(|output| output.status.success());
                (!works).then(|| format!("{} has no {module}", setting.python().display()))
            }),
            Program::Node => not_installed("node"),
            Program::Nginx => not_installed("nginx").or_else(|| {
                nginx_modules().is_none().then(|| "nginx has no modules for streams and njs".to_owned())
            }),
            Program::Haproxy => not_installed("haproxy"),
            Program::Socat => not_installed("socat"),
            Program::Ncat => not_installed("ncat"),
        }
    }

    /// How it is started.
    pub(crate) fn command(
        &self,
        setting: &Setting,
        kind: Kind,
        place: &Place,
        scratch: &Path,
        message_bytes: usize,
    ) -> Result<Command, Box<dyn Error>> {
        let socket = [kind.name().to_owned(), place.argument()];
        let command = match self.program {
            Program::Resay(variant) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", variant.name()]).args(&socket);
                command
            }
            Program::Built { file, arguments, .. } => {
                let mut command = Command::new(setting.built.join(file));
                command.args(arguments).args(&socket);
                command
            }
            Program::Python(name) => {
                let mut command = Command::new(setting.python());
                command.arg(setting.sources.join("echo.py")).arg(name).args(&socket);
                command
            }
            Program::Node => {
                let mut command = Command::new("node");
                command.arg(setting.sources.join("echo.js")).args(&socket);
                command
            }
            Program::Nginx => {
                let modules = nginx_modules().ok_or("nginx has no modules")?;
                let configuration = scratch.join("nginx.conf");
                let mut text = setting.filled("nginx/nginx.conf", scratch, &listen(kind, place, "unix:"))?;
                text = text.replace("@MODULES@", &modules.display().to_string());
                fs::write(&configuration, text)?;
                let mut command = Command::new(path_of("nginx").ok_or("nginx is gone")?);
                command.arg("-p").arg(scratch).arg("-c").arg(configuration);
                command
            }
            Program::Haproxy => {
                let configuration = scratch.join("haproxy.cfg");
                let text = setting.filled("haproxy/haproxy.cfg", scratch, &listen(kind, place, "unix@"))?;
                fs::write(&configuration, text)?;
                let mut command = Command::new(path_of("haproxy").ok_or("haproxy is gone")?);
                command.arg("-db").arg("-f").arg(configuration);
                command.env("ECHO_MESSAGE_BYTES", message_bytes.to_string());
                command
            }
            Program::Socat => {
                let address = match kind {
                    Kind::Tcp => format!("TCP-LISTEN:{},bind=127.0.0.1,fork,nodelay,backlog=4096", socket[1]),
                    Kind::Unix => format!("UNIX-LISTEN:{},fork,backlog=4096", socket[1]),
                    Kind::Udp => format!("UDP-LISTEN:{},bind=127.0.0.1,fork", socket[1]),
                };
                let mut command = Command::new("socat");
                command.args([&address, "PIPE"]);
                command
            }
            Program::Ncat => {
                let mut command = Command::new("ncat");
                command.args(["-k", "-m", "100000", "-e", "/bin/cat"]);
                match kind {
                    Kind::Tcp => command.args(["-l", "127.0.0.1", &socket[1]]),
                    Kind::Udp => command.args(["-l", "-u", "127.0.0.1", &socket[1]]),
                    Kind::Unix => command.args(["-l", "-U", &socket[1]]),
                };
                command
            }
        };
        Ok(command)
    }

    /// Which version of it this is.
    pub(crate) fn version(&self, setting: &Setting) -> String {
        let version = match self.program {
            Program::Resay(_) => Some(resay::VERSION.to_owned()),
            Program::Built { version: Version::Library(name), .. } => {
                said("pkg-config", &["--modversion", name])
            }
            Program::Built { version: Version::Crate(name), .. } => setting.locked(name),
            Program::Built { version: Version::Go, .. } => said("go", &["version"]),
            Program::Built { version: Version::None, .. } => {
                said("cc", &["-dumpfullversion"]).map(|version| format!("cc {version}"))
            }
            Program::Python(module) => {
                let python = setting.python().display().to_string();
                let code = format!("import {module} as m; print(getattr(m, '__version__', ''))");
                let own = said(&python, &["-c", &code]).map(|version| format!("{version}, "));
                said(&python, &["--version"])
                    .map(|version| format!("{}Python {version}", own.unwrap_or_default()))
            }
            Program::Node => said("node", &["--version"]),
            Program::Nginx => said("nginx", &["-v"]),
            Program::Haproxy => said("haproxy", &["-v"]),
            Program::Socat => said("socat", &["-V"]),
            Program::Ncat => said("ncat", &["--version"]),
        };
        version.unwrap_or_else(|| "unknown".to_owned())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl Setting {
    fn python(&self) -> PathBuf {
        self.built.join("venv/bin/python")
    }

    /// Why there is no such file among what was built, if there is none.
    fn not_built(&self, file: &str) -> Option<String> {
        if self.built.join(file).exists() {
            return None;
        }
        let reasons = fs::read_to_string(self.built.join("missing")).unwrap_or_default();
        let reason = reasons.lines().find_map(|line| line.strip_prefix(file)?.strip_prefix('\t'));
        Some(reason.map_or_else(|| "it was not built: cargo xtask peers does".to_owned(), str::to_owned))
    }

    /// A configuration with its places filled in.
    fn filled(&self, file: &str, scratch: &Path, listen: &str) -> Result<String, Box<dyn Error>> {
        let path = self.sources.join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let sources = path.parent().unwrap_or(&self.sources).display().to_string();
        let scratch = scratch.display().to_string();
        Ok(text.replace("@LISTEN@", listen).replace("@SCRATCH@", &scratch).replace("@SOURCES@", &sources))
    }

    /// The version of a package of the servers in Rust.
    fn locked(&self, package: &str) -> Option<String> {
        let lock = fs::read_to_string(self.sources.join("rust/Cargo.lock")).ok()?;
        let name = format!("name = \"{package}\"");
        let manifest = fs::read_to_string(self.sources.join("rust/Cargo.toml")).ok()?;
        let wanted =
            manifest.lines().find_map(|line| line.strip_prefix(package)?.trim_start().strip_prefix('='))?;
        let wanted: String = wanted.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        // Another package may want another version of it.
        lock.split("[[package]]").filter(|entry| entry.contains(&name)).find_map(|entry| {
            let version = entry.lines().find_map(|line| line.strip_prefix("version = \""))?;
            version.starts_with(&wanted).then(|| version.trim_end_matches('"').to_owned())
        })
    }
}

/// What a configuration file calls the place.
fn listen(kind: Kind, place: &Place, unix: &str) -> String {
    match kind {
        Kind::Unix => format!("{unix}{place}"),
        Kind::Tcp | Kind::Udp => place.to_string(),
    }
}

fn not_installed(program: &str) -> Option<String> {
    path_of(program).is_none().then(|| format!("{program} is not installed"))
}

/// Where a program is; daemons may be where users do not look.
fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(daemons)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Where distributions put nginx's modules.
fn nginx_modules() -> Option<PathBuf> {
    [
        "/usr/lib/nginx/modules",
        "/usr/lib64/nginx/modules",
        "/usr/share/nginx/modules",
        "/usr/local/libexec/nginx",
    ]
    .map(PathBuf::from)
    .into_iter()
    .find(|directory| directory.join("ngx_stream_js_module.so").is_file())
}

/// The version in what a program says, on whichever output: the first word with a digit before a point.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let path = path_of(program).unwrap_or_else(|| program.into());
    let output = Command::new(path).args(arguments).output().ok()?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    version_in(&text).map(str::to_owned)
}

fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| {
        let begin = word.find(|c: char| c.is_ascii_digit())?;
        // No date, no address.
        word[begin..].contains('.').then(|| word[begin..].trim_end_matches([',', ')']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        for (text, version) in [
            ("go version go1.19.8 linux/amd64", "1.19.8"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            (
                "socat by Gerhard Rieger and contributors\nsocat version 1.7.4.4 on 06 Nov 2022 08:15",
                "1.7.4.4",
            ),
            ("Ncat: Version 7.93 ( https://nmap.org/ncat )", "7.93"),
            ("v20.20.2", "20.20.2"),
        ] {
            assert_eq!(version_in(text), Some(version));
        }
        assert_eq!(version_in("no version"), None);
    }

    #[test]
    fn names_are_unique() {
        for (index, peer) in Peer::ALL.iter().enumerate() {
            assert!(Peer::ALL[..index].iter().all(|other| other.name != peer.name), "{peer}");
        }
    }
}
