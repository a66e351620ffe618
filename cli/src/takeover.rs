//! `serve --takeover PATH`: a new server goes on with the sockets of a running one, which then ends.
//!
//! ```text
//! new: handover 1 ──────────────────────> old's control socket
//!      <── ok, JSON (module's `Offer`), then the descriptors in the order of the offer (SCM_RIGHTS)
//! new: opens the rest, starts, and serves
//!      serving ["tcp://…", …] ──────────> old: leaves these sockets, closes the others, gives up control socket and metrics
//!      <── released JSON: figures               its connections go on for a second, then it drains
//! new: its own control socket
//!      <── ok, JSON: the last figures          the end
//! ```
//!
//! What the new server cannot have is found out before `serving`: of an address that is in use, the offer tells whether the old one
//! gives it up. Until `serving` nothing has changed in the old server: if the new one fails, its end of the connection closes, and that is all.
//!
//! The figures of each listener go on where those of the old server end, so that rates have no gap: whoever has asked the old one has
//! seen no more than it tells with `released`, since after that nobody can ask it any more.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resay::net::address::{Address, UnixKind, UnixName};
use resay::{Engine, Handed, HandoverStats, ListenerId, LogLevel, Stats};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::control::report::Counts;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::output;

/// How long the new server may take until it serves, and the old one for each of its answers.
const LIMIT: Duration = Duration::from_secs(60);
/// How long connections of the old server go on, so that what was sent to one that was just accepted arrives.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// Descriptors in one message; the kernel allows 253.
const BATCH: usize = 64;
/// A listener takes less than 1 KiB of it.
const LINE_BYTES_MAX: usize = 1 << 24;
const SOCKETS_MAX: usize = 1 << 16;
const SERVING: &str = "serving ";
const RELEASED: &str = "released";

/// What the old server has.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    listeners: Vec<Offered>,
    /// What it has done so far.
    totals: LastFigures,
    /// Where else it is, with control sockets and metrics: it gives that up when the new one serves. `None`: it does not say.
    others: Option<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Offered {
    url: String,
    sockets: usize,
}

/// What the old server has done, all in all and by listener.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LastFigures {
    #[serde(flatten)]
    all: Counts,
    /// Of those that are or were there until the handover. Servers of earlier versions do not say.
    #[serde(default)]
    listeners: Vec<ListenerFigures>,
    /// Of all others. Servers of earlier versions do not say.
    #[serde(default)]
    others: Option<Counts>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ListenerFigures {
    url: String,
    #[serde(flatten)]
    counts: Counts,
}

impl LastFigures {
    fn of(engine: &Engine) -> LastFigures {
        let HandoverStats { listeners, others } = engine.handover_stats();
        let of = |(url, stats): (String, Stats)| ListenerFigures { url, counts: Counts::of(&stats).short() };
        LastFigures {
            all: Counts::of(&engine.stats()),
            listeners: listeners.into_iter().map(of).collect(),
            others: Some(Counts::of(&others)),
        }
    }

    fn stats(&self) -> HandoverStats {
        let listeners = self.listeners.iter().map(|figures| (figures.url.clone(), figures.counts.stats()));
        HandoverStats {
            listeners: listeners.collect(),
            others: self.others.as_ref().unwrap_or(&self.all).stats(),
        }
    }
}

/// The old server's side: offers all listeners, and leaves them once the other one serves. An error: nothing has changed.
/// `others`: what it also gives up then.
pub(crate) fn hand_over(client: &UnixStream, engine: &Engine, others: Vec<String>) -> Result<(), Failure> {
    let all = engine.hand_over()?;
    offer(client, engine, &all, others).map_err(broken)?;
    let line = read_line(client).map_err(broken)?;
    let taken = line.strip_prefix(SERVING).and_then(|urls| serde_json::from_str::<Vec<String>>(urls).ok());
    let taken =
        taken.ok_or_else(|| broken(io::Error::other("the other server has ended, or does not serve")))?;
    for (id, handed) in &all {
        // One that cannot be closed within the time is closed later.
        let _ = if taken.contains(&handed.url) { engine.leave(*id) } else { engine.close_listener(*id) };
    }
    Ok(())
}

/// Tells the other server that its time has come: the control socket is free, and nobody has seen later figures than these.
pub(crate) fn release(mut client: &UnixStream, engine: &Engine) {
    let figures = output::json(&LastFigures::of(engine)).unwrap_or_default();
    // If it is gone, so be it: the sockets went with it.
    let _ = client.write_all(format!("{RELEASED} {figures}\n").as_bytes());
}

/// The last figures, for the server that goes on.
pub(crate) fn last_figures(engine: &Engine) -> Result<String, Failure> {
    output::json(&LastFigures::of(engine))
}

fn offer(
    mut client: &UnixStream,
    engine: &Engine,
    all: &[(ListenerId, Handed)],
    others: Vec<String>,
) -> io::Result<()> {
    let listeners =
        all.iter().map(|(_, handed)| Offered { url: handed.url.clone(), sockets: handed.sockets.len() });
    let offer =
        Offer { listeners: listeners.collect(), totals: LastFigures::of(engine), others: Some(others) };
    let text = output::json(&offer).map_err(|failure| io::Error::other(failure.text().to_owned()))?;
    client.set_write_timeout(Some(LIMIT))?;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(format!("ok\n{text}\n").as_bytes())?;
    let sockets: Vec<BorrowedFd<'_>> =
        all.iter().flat_map(|(_, handed)| &handed.sockets).map(AsFd::as_fd).collect();
    for batch in sockets.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(batch)) {
            return Err(io::Error::other("no room for descriptors"));
        }
        sendmsg(client, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// The new server's side.
#[derive(Debug)]
pub(crate) struct Takeover {
    connection: UnixStream,
    /// The old server's control socket.
    path: PathBuf,
    offer: Offer,
    /// What nobody has taken yet.
    pub(crate) handed: Vec<Handed>,
}

impl Takeover {
    /// Asks the server that listens at this control socket for its sockets.
    pub(crate) fn begin(path: &Path) -> Result<Takeover, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Unreachable, format!("--takeover {}: {error}", path.display()))
        };
        let connection = UnixStream::connect(path).map_err(failed)?;
        connection.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        connection.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        (&connection).write_all(b"handover 1\n").map_err(failed)?;
        match read_line(&connection).map_err(failed)?.as_str() {
            "ok" => {}
            refused => return Err(failed(io::Error::other(format!("the server answers: {refused}")))),
        }
        let wrong = |_| failed(io::Error::other("the offer cannot be read"));
        let offer: Offer = serde_json::from_str(&read_line(&connection).map_err(failed)?).map_err(wrong)?;
        let count = offer.listeners.iter().map(|listener| listener.sockets).sum::<usize>();
        if count > SOCKETS_MAX {
            return Err(failed(io::Error::other("too many sockets")));
        }
        let mut sockets = receive(&connection, count).map_err(failed)?.into_iter();
        let handed = offer.listeners.iter().map(|listener| {
            let sockets = sockets.by_ref().take(listener.sockets).collect();
            Handed { url: listener.url.clone(), sockets }
        });
        let handed = handed.collect();
        Ok(Takeover { connection, path: path.to_owned(), offer, handed })
    }

    /// Whether an address that is in use is the old server's, which gives it up when this one serves. To be asked when nobody
    /// takes sockets any more: those that are left are closed.
    pub(crate) fn frees(&self, wanted: &Address) -> bool {
        let Some(others) = &self.offer.others else { return true };
        let left = self.handed.iter().map(|handed| &handed.url);
        // A server in another mount namespace has another path for it.
        is_same(&unix(&self.path), wanted)
            || others
                .iter()
                .chain(left)
                .any(|url| Address::parse(url).is_ok_and(|(address, _)| is_same(address.stream(), wanted)))
    }

    /// All that was wanted is served: the old server leaves it, and its control socket is free when this returns.
    pub(crate) fn release(&mut self, engine: &Engine) -> Result<(), Failure> {
        // What a service manager has passed to both is served on here as well.
        let own = engine.urls();
        let is_left = |url: &str| {
            self.handed.iter().any(|handed| handed.url == url) && !own.iter().any(|own| own == url)
        };
        let taken: Vec<_> =
            self.offer.listeners.iter().map(|listener| &listener.url).filter(|url| !is_left(url)).collect();
        let text = output::json(&taken)?;
        engine.carry_over(&self.offer.totals.stats());
        // Sockets that nobody wants are the old server's alone again.
        self.handed.clear();
        // Nothing is to fail any more; and if the old server is gone by now, nobody else removes them.
        engine.complete_handover();
        self.connection.write_all(format!("{SERVING}{text}\n").as_bytes()).map_err(broken)?;
        let line = read_line(&self.connection).map_err(broken)?;
        let figures = line.strip_prefix(RELEASED).map(str::trim_start);
        let figures = figures.ok_or_else(|| broken(io::Error::other("the old server has ended")))?;
        // One of an earlier version does not say.
        if !figures.is_empty() {
            self.offer.totals =
                serde_json::from_str(figures).map_err(|error| broken(io::Error::other(error)))?;
            engine.carry_over(&self.offer.totals.stats());
        }
        Ok(())
    }

    /// Waits for the end of the old server, elsewhere, and for its last figures.
    pub(crate) fn follow(self, engine: &Arc<Engine>, log: &Log) -> io::Result<()> {
        let (engine, log) = (Arc::clone(engine), log.clone());
        let work = move || {
            let last = self.connection.set_read_timeout(None).and_then(|()| {
                let answer = read_line(&self.connection)?;
                if answer != "ok" {
                    return Err(io::Error::other("it has ended without its last figures"));
                }
                let text = read_line(&self.connection)?;
                serde_json::from_str::<LastFigures>(&text).map_err(io::Error::other)
            });
            match last {
                Ok(last) => {
                    engine.carry_over(&last.stats());
                    log.emit(LogLevel::Info, "", "takeover: the old server has ended");
                }
                Err(error) => {
                    let mut known = self.offer.totals.stats();
                    // Nobody has them any more.
                    let listeners = known.listeners.iter_mut().map(|(_, stats)| stats);
                    listeners.chain([&mut known.others]).for_each(|stats| stats.open = 0);
                    engine.carry_over(&known);
                    log.emit(LogLevel::Warn, "", format_args!("takeover: the old server: {error}"));
                }
            }
        };
        thread::Builder::new().name("takeover".to_owned()).spawn(work).map(drop)
    }
}

fn unix(path: &Path) -> Address {
    Address::Unix { kind: UnixKind::Stream, name: UnixName::Path(path.to_owned()) }
}

/// Whether a socket at one address may be what keeps another one from the other. Of TCP the port says so: hosts have names, and
/// one may stand for all.
fn is_same(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => one.port == other.port,
        (
            Address::Unix { name: UnixName::Path(one), .. },
            Address::Unix { name: UnixName::Path(other), .. },
        ) => without_links(one) == without_links(other),
        _ => false,
    }
}

/// The path with the real directory, where that is there.
fn without_links(path: &Path) -> PathBuf {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(directory)), Some(name)) => directory.join(name),
        _ => path,
    }
}

/// Receives so many descriptors.
fn receive(connection: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message =
            recvmsg(connection, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = sockets.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        if message.bytes == 0 || sockets.len() == before {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "not all sockets have come"));
        }
    }
    Ok(sockets)
}

/// A line without its end; nothing more is read, since descriptors may follow. Empty at the end of all.
fn read_line(mut connection: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match connection.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if line.len() == LINE_BYTES_MAX => return Err(io::Error::other("a line is too long")),
            Ok(_) => line.extend_from_slice(&byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(line).map_err(io::Error::other)
}

fn broken(error: io::Error) -> Failure {
    Failure::new(Exit::Broken, format!("handover: {error}"))
}
