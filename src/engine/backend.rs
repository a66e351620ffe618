//! Which kernel interface an engine uses.

use std::fmt;
use std::str::FromStr;

use crate::driver::hybrid::{Hybrid, Opened, Share};
use crate::error::{Error, Result, SpecError};
use crate::limits::EPOLL_STREAMS_MAX;
use crate::options::nearest;

/// Which kernel interface moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// What has measured best on this kernel: io_uring where it can be had (Linux 6.17), with a few streams of a worker, as
    /// long as it has nothing else, and those that flood left to epoll; else epoll. The event [`EventKind::Engine`](crate::EventKind::Engine) says which and why.
    #[default]
    Auto,
    /// Readiness: epoll.
    Epoll,
    /// Linux's io_uring. Only for engines that run on threads of their own; a host that lends its threads or
    /// watches [`Engine::poll_fd`](crate::Engine::poll_fd) gets epoll.
    Uring,
}

impl FromStr for Backend {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Backend, SpecError> {
        match text {
            "auto" => Ok(Backend::Auto),
            "epoll" => Ok(Backend::Epoll),
            "uring" => Ok(Backend::Uring),
            _ => Err(SpecError::new(
                "backend",
                text,
                0,
                match nearest(text, ["auto", "epoll", "uring"].into_iter()) {
                    Some(meant) => format!("unknown backend {text:?}, did you mean {meant:?}?"),
                    None => format!("unknown backend {text:?}; there are auto, epoll and uring"),
                },
            )),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Auto => "auto",
            Backend::Epoll => "epoll",
            Backend::Uring => "uring",
        })
    }
}

/// What a wish came to.
pub(super) struct Chosen {
    pub(super) backend: Backend,
    pub(super) reason: String,
    /// One a worker.
    pub(super) drivers: Vec<Opened>,
}

impl Backend {
    /// Opens a driver for each worker. An explicit wish that cannot be met is an error; [`Backend::Auto`] then takes
    /// what can be had.
    pub(super) fn open(self, workers: usize, own_threads: bool) -> Result<Chosen> {
        match self {
            Backend::Epoll => epoll(workers, "as asked for"),
            Backend::Uring if !own_threads => {
                epoll(workers, "io_uring is for engines on threads of their own")
            }
            Backend::Auto if !own_threads => epoll(workers, "the host lends the threads"),
            Backend::Uring => uring(workers, Share::All, "as asked for"),
            Backend::Auto => {
                let reason = format!(
                    "this kernel has what it takes; up to {EPOLL_STREAMS_MAX} streams of a thread are left to epoll"
                );
                let share = Share::Many { epoll_streams_max: EPOLL_STREAMS_MAX };
                uring(workers, share, &reason).or_else(|error| epoll(workers, &error.to_string()))
            }
        }
    }
}

/// Whether this process can have io_uring.
pub(crate) fn has_uring() -> bool {
    Hybrid::probe_uring().is_ok()
}

fn epoll(workers: usize, reason: &str) -> Result<Chosen> {
    let driver = |_| Hybrid::epoll().map_err(Error::system("open an epoll instance"));
    let drivers = (0..workers).map(driver).collect::<Result<_>>()?;
    Ok(Chosen { backend: Backend::Epoll, reason: reason.to_owned(), drivers })
}

fn uring(workers: usize, share: Share, reason: &str) -> Result<Chosen> {
    Hybrid::probe_uring().map_err(Error::system("use io_uring"))?;
    let driver = |_| Hybrid::uring(share).map_err(Error::system("open an io_uring"));
    let drivers = (0..workers).map(driver).collect::<Result<_>>()?;
    Ok(Chosen { backend: Backend::Uring, reason: reason.to_owned(), drivers })
}
