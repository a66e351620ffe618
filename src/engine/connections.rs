//! Connections, named by the host: what they are, and what is to become of them.
//!
//! None of the calls that change a connection waits: they leave a request with the worker that serves it, which takes it with
//! its next turn, in the order in which they were made. The first call of all makes the directory of connections, and waits
//! for each worker's turn once, unless it comes before there are workers.

use std::sync::atomic::Ordering;

use super::listeners::ListenerId;
use super::state::{Core, Engine};
use crate::buffer;
use crate::connection::{Request, Unasked};
use crate::error::{Error, Result};
use crate::worker::{Answer, Command, ConnectionInfo, Question};

const UNKNOWN: Error = Error::Handle("connection");

impl Engine {
    /// Whether the workers enter their connections into a directory, so that calls with a number of one do not wait. The first
    /// such call makes it; called before the engine runs, [`connection_numbers`](Engine::connection_numbers) does without
    /// waiting.
    pub fn has_connection_numbers(&self) -> bool {
        self.core.get().is_none_or(|core| core.shared.directory.is_complete())
    }

    /// The numbers of the connections that are open now, of one listener or of all, in the order in which they came.
    pub fn connection_numbers(&self, listener: Option<ListenerId>) -> Result<Vec<u64>> {
        if let Some(id) = listener {
            self.find(id)?;
        }
        match self.indexed()? {
            Some(core) => Ok(core.shared.directory.ids(listener.map(ListenerId::number))),
            None => Ok(Vec::new()),
        }
    }

    /// A connection as it is now. Waits for its worker's turn.
    pub fn connection(&self, number: u64) -> Result<ConnectionInfo> {
        let core = self.indexed()?.ok_or(UNKNOWN)?;
        let place = core.shared.directory.find(number, |place| (place.worker, place.token));
        let (worker, token) = place.ok_or(UNKNOWN)?;
        match core.ask_one(worker, Question::Describe { token, id: number })? {
            Some(Answer::Connection(info)) => Ok(*info),
            _ => Err(UNKNOWN),
        }
    }

    /// Sends bytes that answer nothing, as they are: the next ones of a stream, without a frame, or one record. They leave
    /// behind all answers that were made before, delayed ones too, and through the layer of the stream.
    ///
    /// Fails with [`Error::State`] where the connection is ending: after
    /// [`shut_down_connection`](Engine::shut_down_connection), [`close_connection`](Engine::close_connection) and
    /// [`reset_connection`](Engine::reset_connection), and when our side has ended for another reason.
    ///
    /// Fails with [`Error::Full`], and sends nothing, where as much as `high_water` would wait of what was sent this way, or
    /// where a record is longer than `max_message`, or where there is no memory for a copy. What does not reach the peer is
    /// counted as undelivered bytes.
    pub fn send(&self, number: u64, data: &[u8]) -> Result<()> {
        let core = self.indexed()?.ok_or(UNKNOWN)?;
        let place = core.shared.directory.find(number, |place| {
            if place.is_ending() {
                return Err(Error::State("the connection is ending: it is sent nothing more"));
            }
            let is_record = place.listener.limits.records;
            if is_record && data.len() > place.listener.message_bytes_max {
                return Err(Error::Full("the record is longer than max_message"));
            }
            if !is_record && data.is_empty() {
                return Ok(None);
            }
            let permit = place.account().take(data.len());
            let permit =
                permit.ok_or(Error::Full("high_water: the peer has not read what was sent before"))?;
            Ok(Some((place.worker, place.token, permit)))
        });
        let Some((worker, token, permit)) = place.ok_or(UNKNOWN)?? else { return Ok(()) };
        let bytes = buffer::try_copy(data).ok_or(Error::Full("there is no memory for the data"))?;
        let request = Request::Send(Unasked { bytes, permit });
        push(core, worker, Command::Request { token, id: number, request })
    }

    /// Ends a connection in good order: what has arrived is answered, then our side ends, and the connection is closed when
    /// the peer has ended its own, or two seconds later.
    pub fn shut_down_connection(&self, number: u64) -> Result<()> {
        self.request(number, Request::ShutDown)
    }

    /// Answers nothing more of a connection: what waits is sent, then our side ends, as with
    /// [`shut_down_connection`](Engine::shut_down_connection).
    pub fn close_connection(&self, number: u64) -> Result<()> {
        self.request(number, Request::Close)
    }

    /// Ends a connection at once, with a reset where the socket knows it; what waits is lost.
    pub fn reset_connection(&self, number: u64) -> Result<()> {
        self.request(number, Request::Reset)
    }

    /// Reads nothing more of a connection, so that what its peer sends fills the kernel's buffers, until
    /// [`resume_connection`](Engine::resume_connection). What was read is answered. Meanwhile `idle_timeout` does not count,
    /// and that the peer ends or resets is only seen when something is sent.
    pub fn pause_connection(&self, number: u64) -> Result<()> {
        self.request(number, Request::Pause)
    }

    /// Reads on, unless the connection's listener is [paused](Engine::pause_listener).
    pub fn resume_connection(&self, number: u64) -> Result<()> {
        self.request(number, Request::Resume)
    }

    /// Reads nothing more of a listener's connections, present and new, or of its datagrams: these wait in the kernel, which
    /// drops what it has no room for.
    pub fn pause_listener(&self, id: ListenerId) -> Result<()> {
        self.hold(id, true)
    }

    /// Reads on, but for connections that were [paused](Engine::pause_connection) themselves.
    pub fn resume_listener(&self, id: ListenerId) -> Result<()> {
        self.hold(id, false)
    }

    /// Resets everybody who is connected to a listener; how many that were. Those who wait to be accepted are not among them.
    pub fn reset_listener(&self, id: ListenerId) -> Result<usize> {
        self.find(id)?;
        let Some(core) = self.core.get() else { return Ok(0) };
        if core.workers.len() > 1 {
            // What one worker has accepted for another is on its way then, before the question.
            core.ask_all(Question::Nothing)?;
        }
        let answers = core.ask_all(Question::Reset { id: id.number() })?;
        let counts = answers.iter().map(|answer| if let Answer::Count(count) = answer { *count } else { 0 });
        Ok(counts.sum())
    }

    /// The workers, once they enter their connections into the directory.
    fn indexed(&self) -> Result<Option<&Core>> {
        let Some(core) = self.core.get() else {
            self.is_indexed_early.store(true, Ordering::Release);
            return Ok(None);
        };
        if core.shared.directory.is_complete() {
            return Ok(Some(core));
        }
        core.shared.directory.keep();
        core.ask_all(Question::Enter)?;
        core.shared.directory.set_complete();
        Ok(Some(core))
    }

    fn request(&self, number: u64, request: Request) -> Result<()> {
        let core = self.indexed()?.ok_or(UNKNOWN)?;
        let ends = matches!(request, Request::ShutDown | Request::Close | Request::Reset);
        let place = core.shared.directory.find(number, |place| {
            if ends {
                // Known at once: what is sent after this call is refused, whenever the worker takes the request.
                place.end();
            }
            (place.worker, place.token)
        });
        let (worker, token) = place.ok_or(UNKNOWN)?;
        push(core, worker, Command::Request { token, id: number, request })
    }

    fn hold(&self, id: ListenerId, is_paused: bool) -> Result<()> {
        let listener = self.find(id)?;
        listener.set_paused(is_paused);
        for mailbox in self.core.get().map(|core| &core.shared.mailboxes).into_iter().flatten() {
            // A worker that has ended reads nothing.
            let _ = mailbox.push(Command::HoldListener { id: id.number() });
        }
        Ok(())
    }
}

fn push(core: &Core, worker: usize, command: Command<std::os::fd::OwnedFd>) -> Result<()> {
    // A worker that has ended has no connections.
    core.shared.mailboxes[worker].push(command).map_err(|_| UNKNOWN)
}
