//! The listeners of an engine: adding, finding and closing them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::state::{Control, Engine, Waiting};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::listener::Listener;
pub use crate::listener::ListenerId;
use crate::lock::lock;
use crate::net::address::{Address, Listen};
use crate::net::socket::{self, Bound, Handed};
use crate::options::Options;
use crate::peer::{Peer, SocketKind};
use crate::transform::library::FilterInstance;
use crate::transform::spec::StageSpec;
use crate::worker::Mailbox;

/// Sockets that are bound, with what their listeners have for themselves.
pub(super) type Opened = Vec<(Bound, Own)>;

/// What a listener has for itself: a chain, and a filter.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    chain: Option<Arc<Chain>>,
    filter: Option<Arc<FilterInstance>>,
    /// The URL that it had in the process that has handed its sockets over.
    url_before: Option<String>,
}

/// A listener as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerInfo {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens, with the real port.
    pub url: String,
    /// The kind of its socket.
    pub kind: SocketKind,
    /// The address that its socket has, where it has one.
    pub local: Option<Peer>,
    /// Its chain, canonical; empty for the plain echo.
    pub chain: String,
    /// Options as the operating system reports them (`getsockopt`): what it made of what was asked for. Linux
    /// doubles buffer sizes, for example (socket(7)).
    pub effective: Vec<(String, String)>,
}

impl ListenerInfo {
    /// The port, where the socket has one.
    pub fn port(&self) -> Option<u16> {
        match Address::parse(&self.url).ok()?.0.stream() {
            Address::Tcp(endpoint) | Address::Udp(endpoint) => Some(endpoint.port),
            _ => None,
        }
    }
}

impl Engine {
    /// Adds a listener, also while running, and answers its name.
    pub fn listen(&self, url: &str) -> Result<ListenerId> {
        let listen = Listen::parse(url, &lock(&self.control).defaults)?;
        let opened = self.open(&[listen])?;
        opened.first().copied().ok_or(Error::State("the URL names no socket"))
    }

    /// Adds a listener on a socket that the caller opened: listening, or bound for datagrams. `options` are
    /// `key=value` pairs as in a URL's query. Options of the socket that would change answers are reset; after a failure its
    /// flags and options are as they were, for others who share it.
    pub fn listen_socket(&self, socket: OwnedFd, options: &str) -> Result<ListenerId> {
        let number = socket.as_raw_fd();
        self.listen_socket_called(socket, number, options)
    }

    /// For the C interface: the same, with the number by which the caller knows the socket, for errors.
    #[doc(hidden)]
    pub fn listen_socket_called(&self, socket: OwnedFd, number: RawFd, options: &str) -> Result<ListenerId> {
        let address = format!("fd:{number}");
        let url = if options.is_empty() { address } else { format!("{address}?{options}") };
        let listen = Listen::parse(&url, &lock(&self.control).defaults)?;
        listen.check()?;
        let own = self.own(&listen)?;
        let bound = socket::adopt(socket, number, &listen.options)?;
        listen.check_kind(bound.kind)?;
        let mut control = lock(&self.control);
        self.serve(&mut control, vec![(bound, own)])?
            .first()
            .copied()
            .ok_or(Error::State("the descriptor is no socket"))
    }

    /// Adds several listeners, also while running: all of them, or none. Answers the names for each; a name of sockets that the
    /// service manager has passed may stand for several.
    pub fn listen_all(&self, listens: &[Listen]) -> Result<Vec<Vec<ListenerId>>> {
        self.listen_all_with(listens, &mut Vec::new())
    }

    /// The same with sockets that another process [hands over](Engine::hand_over): each that is bound to one of the addresses is
    /// taken out of `handed` and served in place of a new one. Port 0 means any port there. When that process is
    /// to leave them, [`complete_handover`](Engine::complete_handover) follows.
    pub fn listen_all_with(
        &self,
        listens: &[Listen],
        handed: &mut Vec<Handed>,
    ) -> Result<Vec<Vec<ListenerId>>> {
        let (opened, counts) = self.bind_all(listens, handed, true)?;
        let mut control = lock(&self.control);
        let mut ids = self.serve(&mut control, opened)?.into_iter();
        Ok(counts.into_iter().map(|count| ids.by_ref().take(count).collect()).collect())
    }

    pub(super) fn open(&self, listens: &[Listen]) -> Result<Vec<ListenerId>> {
        let (opened, _) = self.bind_all(listens, &mut Vec::new(), true)?;
        let mut control = lock(&self.control);
        self.serve(&mut control, opened)
    }

    /// Creates the chains of listeners and binds their sockets; how many there are of each, too. `takes_any_port`: one with port 0
    /// takes any port of those that were handed over.
    pub(super) fn bind_all(
        &self,
        listens: &[Listen],
        handed: &mut Vec<Handed>,
        takes_any_port: bool,
    ) -> Result<(Opened, Vec<usize>)> {
        // Everything that can be wrong without a socket is found before one is bound.
        if self.is_ending() {
            return Err(Error::State("the engine is ending or has ended"));
        }
        let mut owns = Vec::with_capacity(listens.len());
        for listen in listens {
            listen.check()?;
            owns.push(self.own(listen)?);
        }
        let settings = Arc::clone(&lock(&self.control).thread_settings);
        let (mut opened, mut counts) = (Vec::with_capacity(listens.len()), Vec::with_capacity(listens.len()));
        let dealt = Handed::deal(handed, listens, takes_any_port);
        for ((listen, mut own), dealt) in listens.iter().zip(owns).zip(dealt) {
            own.url_before = dealt.as_ref().map(|handed| handed.url.clone());
            let before = opened.len();
            let bound = match dealt {
                Some(handed) => vec![handed.adopt(listen)?],
                None => settings.with(|| socket::bind(listen))?,
            };
            opened.extend(bound.into_iter().map(|bound| (bound, own.clone())));
            counts.push(opened.len() - before);
        }
        Ok((opened, counts))
    }

    /// Hands bound sockets to workers, or keeps them until there are some: all of them, or none.
    pub(super) fn serve(&self, control: &mut Control, mut opened: Opened) -> Result<Vec<ListenerId>> {
        if self.is_ending() {
            return Err(Error::State("the engine is ending or has ended"));
        }
        let mut listeners = Vec::with_capacity(opened.len());
        for (bound, own) in &mut opened {
            let chain = own.chain.as_ref().unwrap_or(&control.chain);
            let effective =
                socket::effective(bound.socket.as_fd(), bound.kind, &bound.options, &bound.on_accept);
            let around = (control.around.clone(), own.filter.clone());
            let listener =
                Listener::new(control.listeners_made, bound, effective, Arc::clone(chain), around)?;
            control.listeners_made += 1;
            check_needs(&listener, chain)?;
            listeners.push(Arc::new(listener));
        }
        if let Some(core) = self.core.get() {
            if core.shared.mailboxes.iter().any(Mailbox::is_closed) {
                return Err(Error::State("the engine has stopped"));
            }
            listeners.iter().try_for_each(|listener| control.prepare(listener))?;
        }
        // What somebody else has opened goes back as it was after any failure: this comes when nothing else can fail.
        opened.iter_mut().try_for_each(|(bound, _)| bound.complete())?;
        let ids = listeners.iter().map(|listener| ListenerId(listener.id)).collect();
        let sockets = opened.into_iter().map(|(bound, own)| (bound.socket, own.url_before));
        let ready = listeners.into_iter().zip(sockets);
        for (listener, (socket, url_before)) in ready {
            if let Some(url) = url_before {
                control.carried_over.inherit(url, listener.id);
            }
            match self.core.get() {
                Some(core) => core.serve(&listener, socket)?,
                None => control.waiting.push(Waiting { listener: Arc::clone(&listener), socket }),
            }
            control.listeners.push(listener);
        }
        Ok(ids)
    }

    fn own(&self, listen: &Listen) -> Result<Own> {
        let chain = self.own_chain(&listen.options).map_err(|error| listen.written.place(error))?;
        Ok(Own { chain, filter: self.own_filter(&listen.options)?, url_before: None })
    }

    /// Creates the filter that a listener with these options would have, and drops it: whether there is one of that name, and
    /// whether it can read what its options name.
    pub fn check_filter(&self, options: &Options) -> Result<()> {
        self.own_filter(options).map(drop)
    }

    /// Creates the filter of a listener: it reads what its options name.
    pub(super) fn own_filter(&self, options: &Options) -> Result<Option<Arc<FilterInstance>>> {
        let Some(text) = &options.filter else { return Ok(None) };
        let spec = StageSpec::parse_filter(text)?;
        let table = lock(&self.registry).find_filter(&spec.target)?;
        let options: Vec<_> = spec.options.into_iter().map(|option| (option.key, option.value)).collect();
        FilterInstance::create(table, &options, &self.services).map(Some)
    }

    /// The listeners, in the order in which they were added.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        lock(&self.control).listeners.iter().map(|listener| info_of(listener)).collect()
    }

    /// One listener.
    pub fn listener(&self, id: ListenerId) -> Result<ListenerInfo> {
        self.find(id).map(|listener| info_of(&listener))
    }

    /// An option of a listener as it holds, as text that [`set`](Engine::set) accepts: for what is the operating system's, as
    /// that has reported it when the socket was bound (see [`ListenerInfo::effective`]). `None`: there is no such option.
    pub fn listener_option(&self, id: ListenerId, key: &str) -> Result<Option<String>> {
        let listener = self.find(id)?;
        if key == "chain" {
            return Ok(Some(listener.chain().spec().to_owned()));
        }
        let effective = listener.effective.iter().find(|(known, _)| known == key);
        let effective = effective.map(|(_, value)| value.clone());
        Ok(effective.or_else(|| listener.guard_option(key)).or_else(|| listener.options.get(key)))
    }

    /// All options of a listener as they were asked for last, also while it is served. `chain` is its own one, canonical; `None`:
    /// it has the engine's.
    pub fn listener_options(&self, id: ListenerId) -> Result<Options> {
        let control = lock(&self.control);
        let listener = find_listener(&control, id)?;
        let chain = listener.chain();
        let own = (!Arc::ptr_eq(&chain, &control.chain)).then(|| chain.spec().to_owned());
        Ok(Options { chain: own, ..listener.options.clone() })
    }

    /// The URLs of the listeners, with real ports.
    pub fn urls(&self) -> Vec<String> {
        lock(&self.control).listeners.iter().map(|listener| listener.url.clone()).collect()
    }

    pub(super) fn find(&self, id: ListenerId) -> Result<Arc<Listener>> {
        find_listener(&lock(&self.control), id)
    }
}

pub(super) fn find_listener(control: &Control, id: ListenerId) -> Result<Arc<Listener>> {
    let mut listeners = control.listeners.iter();
    listeners.find(|listener| listener.id == id.0).cloned().ok_or(Error::Handle("listener"))
}

fn info_of(listener: &Listener) -> ListenerInfo {
    ListenerInfo {
        id: ListenerId(listener.id),
        url: listener.url.clone(),
        kind: listener.kind,
        local: listener.local.clone(),
        chain: listener.chain().spec().to_owned(),
        effective: listener.effective.clone(),
    }
}

/// Refuses transforms that need whole messages on a raw stream.
pub(super) fn check_needs(listener: &Listener, chain: &Chain) -> Result<()> {
    let raw =
        listener.kind.is_connected() && !listener.limits.records && !listener.limits.framer.has_messages();
    match chain.needs_messages() {
        Some(id) if raw => Err(Error::Transform {
            id: id.to_owned(),
            reason: "needs whole messages; a raw stream has none (set frame, for example frame=lines)".into(),
            place: None,
        }),
        _ => Ok(()),
    }
}
