//! The thread that answers: a few clients at once, none of which can keep it from the others.
//!
//! ```text
//! accept ──> Reading ── a whole request, or too much, or too late ──> Writing ──> Ending ──> closed
//!              REQUEST_LIMIT                                    ANSWER_LIMIT    END_LIMIT
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::net::{SendFlags, Shutdown, accept_with, send, shutdown};

use super::http::{self, REQUEST_BYTES_MAX, Request};
use super::place::flags;

/// Clients that are served at once; the others wait in the kernel's queue.
const CLIENTS_MAX: usize = 8;
const REQUEST_LIMIT: Duration = Duration::from_secs(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may take to read the end of its answer.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long accepting rests after a failure: descriptors or memory have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Answers clients until the listener is shut down. `complain` is told of the first of several failures to accept one.
pub(super) fn serve(
    listener: &OwnedFd,
    checks_host: bool,
    answer: impl Fn(&Request) -> Vec<u8>,
    complain: impl Fn(io::Error),
) {
    let mut clients: Vec<Client> = Vec::with_capacity(CLIENTS_MAX);
    let mut resting: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let rests = resting.is_some_and(|until| until > now);
        let accepts = clients.len() < CLIENTS_MAX && !rests;
        let deadlines = clients.iter().map(|client| client.until).chain(resting.filter(|_| rests));
        let timeout = deadlines.min().map(|until| until.saturating_duration_since(now));
        let mut fds: Vec<PollFd<'_>> = clients.iter().map(Client::interest).collect();
        if accepts {
            fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        // It waits a little longer than the clock says, not less.
        let timeout = timeout.map(|timeout| timespec(timeout + Duration::from_millis(1)));
        if poll(&mut fds, timeout.as_ref()).is_err() {
            // A signal, or no memory for a moment.
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let now = Instant::now();
        let mut flags_of_clients = ready.iter();
        clients.retain_mut(|client| {
            let is_ready = flags_of_clients.next().copied().unwrap_or(false);
            client.go_on(is_ready, now, checks_host, &answer)
        });
        if accepts && ready.last().copied().unwrap_or(false) {
            match accept_with(listener, flags()) {
                Ok(socket) => {
                    resting = None;
                    clients.push(Client::new(socket, now));
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                // It does not listen any more.
                Err(Errno::INVAL) => return,
                Err(error) => {
                    if resting.is_none() {
                        complain(error.into());
                    }
                    resting = Some(now + ACCEPT_RETRY);
                }
            }
        }
    }
}

fn timespec(timeout: Duration) -> Timespec {
    Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 })
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    state: State,
    until: Instant,
}

#[derive(Debug)]
enum State {
    Reading(Vec<u8>),
    Writing {
        answer: Vec<u8>,
        sent: usize,
    },
    /// Everything is sent; what the client still says would reset the connection if it were not read.
    Ending,
}

impl Client {
    fn new(socket: OwnedFd, now: Instant) -> Client {
        Client { socket, state: State::Reading(Vec::new()), until: now + REQUEST_LIMIT }
    }

    fn interest(&self) -> PollFd<'_> {
        let flags = if matches!(self.state, State::Writing { .. }) { PollFlags::OUT } else { PollFlags::IN };
        PollFd::from_borrowed_fd(self.socket.as_fd(), flags)
    }

    /// Does what can be done now; whether the client stays.
    fn go_on(
        &mut self,
        is_ready: bool,
        now: Instant,
        checks_host: bool,
        answer: &impl Fn(&Request) -> Vec<u8>,
    ) -> bool {
        let is_late = self.until <= now;
        if let State::Reading(request) = &mut self.state {
            let found = match is_ready.then(|| fill(self.socket.as_fd(), request)) {
                Some(Ok(Some(0))) | Some(Err(_)) => return false,
                Some(Ok(Some(_))) => http::parse(request, checks_host),
                Some(Ok(None)) | None => None,
            };
            let text = match found {
                Some(Ok(request)) => answer(&request),
                Some(Err(status)) => http::plain(status, "", false),
                None if is_late => http::plain(http::TIMEOUT, "", false),
                None => return true,
            };
            self.state = State::Writing { answer: text, sent: 0 };
            self.until = now + ANSWER_LIMIT;
        } else if is_late {
            return false;
        } else if !is_ready {
            return true;
        }
        if let State::Writing { answer, sent } = &mut self.state {
            match drain(self.socket.as_fd(), answer, sent) {
                Ok(false) => return true,
                Ok(true) if shutdown(&self.socket, Shutdown::Write).is_ok() => {}
                Ok(true) | Err(_) => return false,
            }
            self.state = State::Ending;
            self.until = now + END_LIMIT;
        }
        let mut rest = [0; 4096];
        match read(&self.socket, &mut rest) {
            Ok(0) => false,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

/// Reads what is there; `None`: nothing is.
fn fill(socket: BorrowedFd<'_>, request: &mut Vec<u8>) -> Result<Option<usize>, Errno> {
    let mut buffer = [0; 4096];
    let room = REQUEST_BYTES_MAX.saturating_sub(request.len()).min(buffer.len());
    let into = buffer.get_mut(..room).unwrap_or_default();
    match read(socket, &mut *into) {
        Ok(count) => {
            request.extend_from_slice(into.get(..count).unwrap_or_default());
            Ok(Some(count))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends what the socket takes; whether that was the rest.
fn drain(socket: BorrowedFd<'_>, answer: &[u8], sent: &mut usize) -> Result<bool, Errno> {
    while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => *sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
