//! Closing listeners, and letting them refuse for a while.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::listeners::ListenerId;
use super::state::{Control, Core, Engine};
use crate::error::{Error, Result};
use crate::event::{EventKind, LogLevel};
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::address::{Address, Listen, UnixName, Written};
use crate::net::socket::{self, Bound};
use crate::peer::SocketKind;
use crate::worker::{Answer, Question};

impl Engine {
    /// Closes a listener: who waits to be accepted, and what has arrived as a datagram, is still served; when this returns
    /// nobody can come any more. Its connections go on.
    ///
    /// Answers to datagrams that come later are still sent, and not waited for: the address is free when the last one has gone.
    /// A socket that others have too ([`listen_socket`](Engine::listen_socket), [`leave`](Engine::leave)) stays as it is, and
    /// nothing more is received from it here.
    ///
    /// Fails with [`Error::Timeout`] where a worker had no turn within ten seconds, or no descriptors to accept those that
    /// wait: it is closed when that is over.
    pub fn close_listener(&self, id: ListenerId) -> Result<()> {
        let listener = self.find(id)?;
        self.close_and_count(id, |control| control.closed.add(&listener.blocks()))
    }

    /// `count`: keeps the counters.
    pub(super) fn close_and_count(&self, id: ListenerId, count: impl FnOnce(&mut Control)) -> Result<()> {
        let _one = lock(&self.accepting);
        let mut control = lock(&self.control);
        let place = control
            .listeners
            .iter()
            .position(|listener| listener.id == id.0)
            .ok_or(Error::Handle("listener"))?;
        let listener = control.listeners.remove(place);
        count(&mut control);
        control.waiting.retain(|waiting| waiting.listener.id != id.0);
        drop(control);
        let Some(core) = self.core.get() else { return Ok(()) };
        core.ask_all(Question::CloseListener { id: id.0 })?;
        if listener.is_refusing() && !listener.is_served() {
            listener.remove_file();
            core.shared.events.emit_about(LogLevel::Info, EventKind::ListenerClosed, &*listener, "closed");
        }
        Ok(())
    }

    /// Whether peers may come to a listener. Where they may not, those who connect are refused as if nobody listened
    /// (`ECONNREFUSED`; ICMP "port unreachable" for UDP), the address stays the listener's, and its connections go on. Who
    /// waits to be accepted, and what has arrived as a datagram, is still served. It is in effect when this returns. Answers to
    /// datagrams of a unix socket that are still to come when peers may come again are dropped.
    ///
    /// Fails with [`Error::State`] where the engine does not serve yet, where the socket was opened by the program or the
    /// service manager, who share it, and for an abstract unix datagram name, which nobody can keep without receiving.
    pub fn set_accepting(&self, id: ListenerId, on: bool) -> Result<()> {
        let _one = lock(&self.accepting);
        let listener = self.find(id)?;
        let core = self.core.get().ok_or(Error::State("the engine does not serve yet"))?;
        if on != listener.is_refusing() {
            return Ok(());
        }
        if on { self.accept_again(core, &listener) } else { refuse(core, &listener) }
    }

    fn accept_again(&self, core: &Core, listener: &Arc<Listener>) -> Result<()> {
        if !listener.kind.is_unix() {
            all_done(core.ask_all(Question::StopRefusing { id: listener.id })?, "accept again")?;
            listener.set_refusing(false);
            return Ok(());
        }
        // The file of the old socket has to go before there is a new one. Whoever has no descriptors left hears of it before.
        let mut spare = spare_descriptors().map_err(Error::system("accept again"))?;
        // What refuses does so for good: another socket takes its address.
        core.ask_all(Question::Replace { id: listener.id })?;
        let socket = listener.replace_file(|| {
            spare.clear();
            let (address, _) = Address::parse(&listener.url)?;
            let listen = Listen { address, options: listener.options.clone(), written: Written::default() };
            let bound = socket::bind(&listen)?.pop().ok_or(Error::State("the URL names no socket"))?;
            let Bound { file, socket, .. } = bound;
            Ok((file, socket))
        })?;
        core.serve(listener, socket)?;
        core.ask_all(Question::Nothing)?;
        listener.set_refusing(false);
        Ok(())
    }
}

/// As many descriptors as a socket and its file take at most, to be closed just before those are made.
fn spare_descriptors() -> io::Result<Vec<OwnedFd>> {
    const COUNT: usize = 6;
    let (first, second) = UnixStream::pair()?;
    let mut spare = vec![OwnedFd::from(first), OwnedFd::from(second)];
    while let Some(last) = spare.last()
        && spare.len() < COUNT
    {
        spare.push(last.try_clone()?);
    }
    Ok(spare)
}

fn refuse(core: &Core, listener: &Listener) -> Result<()> {
    if listener.is_adopted {
        return Err(Error::State(
            "the listener's socket was opened by the program or the service manager, who have it too: it cannot refuse",
        ));
    }
    if listener.kind == SocketKind::UnixDatagram
        && let Ok((address, _)) = Address::parse(&listener.url)
        && let Address::Unix { name: UnixName::Abstract(_), .. } = address.stream()
    {
        return Err(Error::State(
            "an abstract name of unix datagrams goes with its socket: it cannot refuse and be kept",
        ));
    }
    listener.set_refusing(true);
    let refused =
        core.ask_all(Question::Refuse { id: listener.id }).and_then(|answers| all_done(answers, "refuse"));
    if refused.as_ref().is_err_and(|error| !matches!(error, Error::Timeout { .. })) {
        // Where one of several workers cannot, none does.
        core.ask_all(Question::StopRefusing { id: listener.id })?;
        listener.set_refusing(false);
    }
    refused
}

fn all_done(answers: Vec<Answer>, what: &str) -> Result<()> {
    let failed = answers.into_iter().find_map(|answer| match answer {
        Answer::Failed(error) => Some(error),
        Answer::Connection(_) | Answer::Count(_) | Answer::Socket(_) => None,
    });
    failed.map_or(Ok(()), |error| Err(Error::system(what)(error)))
}
