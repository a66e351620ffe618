//! What becomes of a fault of Resay itself: see [`bug`].

#[cfg(any(test, fuzzing))]
use super::{Served, Socket};
use super::{Worker, state_of};
use crate::bug::{self, Bugs};
use crate::connection::{Closing, Connection};
use crate::driver::{Close, Driver, Token};
use crate::event::{Event, EventKind, LogLevel};
use crate::limits::BUG_EVENTS;
use crate::stats::CloseReason;

impl<D: Driver> Worker<D> {
    /// Emits faults that were found, the first few and then ever fewer of them, and counts them all.
    #[cold]
    #[inline(never)]
    pub(super) fn report(&mut self, bugs: Bugs, connection: Option<&Connection>) {
        let before = self.bugs;
        self.bugs += bugs.count;
        let is_told = before < BUG_EVENTS || before.checked_ilog2() != self.bugs.checked_ilog2();
        if !is_told {
            return;
        }
        let state = connection.and_then(|connection| state_of(&self.listeners, connection.listener()));
        self.shared.events.emit(&Event {
            level: LogLevel::Error,
            kind: EventKind::Engine,
            listener: state.map_or("", |state| &state.listener.url),
            listener_id: state.map_or(0, |state| state.listener.id),
            connection: connection.map_or(0, Connection::id),
            peer: connection.map(Connection::peer),
            cause: None,
            text: &format_args!("{bugs}; worker {} has found {} so far", self.index, self.bugs),
        });
    }

    /// Closes a connection in whose hands something was not as it must be.
    #[cold]
    #[inline(never)]
    pub(super) fn close_broken(&mut self, token: Token) {
        let closing = Closing { reason: CloseReason::SystemError, how: Close::Reset, error: None };
        self.close_connection(token, closing);
    }

    /// The same, where its listener is not there: no step can be taken.
    #[cold]
    #[inline(never)]
    pub(super) fn close_orphan(&mut self, token: Token) {
        bug::found_aside("the listener of a connection");
        self.close_broken(token);
    }

    /// What must hold between two turns.
    #[cfg(any(test, fuzzing))]
    #[expect(clippy::panic, reason = "tests and fuzzers alone call it")]
    pub(super) fn check(&self) {
        let mut connections = vec![0; self.listeners.len()];
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                Some(Socket::Connection(Served { connection, is_unfinished, .. })) => {
                    connections[connection.listener() as usize] += 1;
                    let place = self.unfinished.iter().position(|unfinished| *unfinished == token);
                    assert_eq!(
                        place.is_some(),
                        *is_unfinished,
                        "what has more to do has a place in the queue"
                    );
                }
                Some(Socket::Offloaded(offloaded)) => connections[offloaded.listener as usize] += 1,
                Some(Socket::Listener { .. } | Socket::Datagrams(_)) => {}
                None => panic!("a socket has its place"),
            }
        }
        for (state, connections) in self.listeners.iter().zip(connections) {
            let counted = state.as_ref().map_or(0, |state| state.connections);
            assert_eq!(counted, connections, "connections are counted by their listener");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::driver::simulator::{Mail, Simulator, World};
    use crate::event::Events;
    use crate::offload::Offload;
    use crate::worker::{Directory, Mailbox, Shared};

    #[test]
    fn faults_are_events_and_their_number_is_bounded() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let events = Events::new(
            LogLevel::Error,
            Box::new(move |event| sink.lock().unwrap().push((event.kind, event.to_string()))),
        );
        let shared = Shared {
            events: Arc::new(events),
            taps: Arc::default(),
            mailboxes: vec![Mailbox::new(Box::new(|| {}))],
            pulses: Vec::new(),
            stuck: 0.into(),
            offload: Offload::default(),
            tickets: Arc::default(),
            spin: Duration::ZERO,
            stop: Arc::default(),
            chain_epoch: 0.into(),
            directory: Directory::default(),
            own: Arc::default(),
        };
        let world = World::new(1, Vec::new(), Mail::default());
        let mut worker = Worker::new(0, Simulator::new(&world), Arc::new(shared));
        for _ in 0..1000 {
            bug::found_in_release("something else");
            // A signal may come before the turn has begun.
            while worker.turn(Some(Duration::ZERO)).is_err() {}
        }
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 16 + 5, "and at 32, 64, 128, 256 and 512");
        let (kind, text) = &told[0];
        assert_eq!(*kind, EventKind::Engine);
        assert!(text.starts_with("internal error at ") && text.contains("expected something else"), "{text}");
        assert!(told[20].1.ends_with("worker 0 has found 512 so far"), "{}", told[20].1);
    }
}
