//! What a host asks of connections and listeners meanwhile: to send unasked, to stop and go on reading, to end, to refuse.
//!
//! What it sends is made of a byte that no answer has, so the model is shown the answers without it.

use super::frames::Frame;
use super::{Ask, Command, Question, Run, Socket, simulator};
use crate::channel::channel;
use crate::connection::{Request, Unasked};
use crate::driver::simulator::{Client, Random};

/// What a host sends.
pub(super) const UNASKED: u8 = 0xfe;

/// For how many steps a host is busy: what it sends without end would keep everything from its end.
const STEPS_MAX: usize = 2000;

/// What hosts do in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// Nothing.
    Rests,
    /// They send, and stop and go on reading.
    Sends,
    /// They end connections in good order.
    ShutsDown,
    /// Whatever there is.
    Does,
}

impl Host {
    pub(super) fn of(random: &mut Random) -> Host {
        match random.below(6) {
            0 => Host::Sends,
            1 => Host::ShutsDown,
            2 => Host::Does,
            _ => Host::Rests,
        }
    }
}

impl Run {
    /// A host asks for something, now and then.
    pub(super) fn host_acts(&mut self, step: usize) {
        let host = self.case.host;
        if host == Host::Rests || step > STEPS_MAX || !self.random.one_in(12) {
            return;
        }
        let number = self.random.below(if host == Host::ShutsDown { 1 } else { 40 });
        match number {
            0 if host == Host::ShutsDown && self.random.one_in(6) => self.request(Request::ShutDown),
            0 if host == Host::Does => self.request(Request::ShutDown),
            1 if host == Host::Does => self.request(Request::Close),
            2 if host == Host::Does => self.request(Request::Reset),
            3 | 4 if host == Host::Does => self.turn_peers_away(number == 3),
            5 | 6 => self.hold(number == 5),
            7..14 => self.request(Request::Pause),
            14..25 => self.request(Request::Resume),
            25.. => self.send(),
            _ => {}
        }
    }

    /// A connection that is open, as the directory knows it.
    fn any_connection(&mut self) -> Option<u64> {
        let ids = self.shared.directory.ids(Some(self.listener.id));
        if ids.is_empty() { None } else { Some(self.random.pick(&ids)) }
    }

    fn request(&mut self, request: Request) {
        let Some(id) = self.any_connection() else { return };
        let place = self.shared.directory.find(id, |place| (place.worker, place.token));
        let Some((worker, token)) = place else { return };
        self.meet(match &request {
            Request::Send(_) => "host: send",
            Request::ShutDown => "host: shut down",
            Request::Close => "host: close",
            Request::Reset => "host: reset",
            Request::Pause => "host: pause",
            Request::Resume => "host: resume",
        });
        if matches!(request, Request::Close) {
            self.told_to_close.extend(match self.workers[worker].sockets.get(token) {
                Some(Socket::Connection(served)) => Some(served.connection.peer().clone()),
                Some(Socket::Offloaded(offloaded)) => Some(offloaded.peer.clone()),
                _ => None,
            });
        }
        let _ = self.shared.mailboxes[worker].push(Command::Request { token, id, request });
    }

    fn send(&mut self) {
        if matches!(self.case.frame, Frame::Length { .. } | Frame::Varint) {
            // A length may have any byte.
            return;
        }
        let Some(id) = self.any_connection() else { return };
        let records = self.case.has_records();
        let least = usize::from(records);
        let longest = if self.random.one_in(8) { 600 } else { 20 };
        let bytes = least + self.random.below(longest);
        let permit = self.shared.directory.find(id, |place| place.account().take(bytes)).flatten();
        let Some(permit) = permit else { return self.meet("host: no room") };
        let place = self.shared.directory.find(id, |place| (place.worker, place.token));
        let Some((worker, token)) = place else { return };
        self.sent_unasked += bytes;
        self.meet("host: send");
        let request = Request::Send(Unasked { bytes: vec![UNASKED; bytes], permit });
        let _ = self.shared.mailboxes[worker].push(Command::Request { token, id, request });
    }

    fn hold(&mut self, is_paused: bool) {
        self.meet("host: pause or resume a listener");
        let id = self.listener.id;
        self.listener.set_paused(is_paused);
        self.tell_all(|| Command::HoldListener { id });
    }

    fn turn_peers_away(&mut self, refuses: bool) {
        self.meet(if refuses { "host: refuse" } else { "host: accept again" });
        let id = self.listener.id;
        let question = if refuses { Question::Refuse { id } } else { Question::StopRefusing { id } };
        let (to, _) = channel();
        self.tell_all(|| Command::Ask(Ask::new(question, to.clone()).into()));
    }
}

/// A client as its stream would be seen without what the host has sent.
pub(super) fn without_unasked(client: &simulator::Client) -> Client {
    let mut found = client.clone();
    found.answered.retain(|byte| *byte != UNASKED);
    let before = |upto: usize| client.answered[..upto].iter().filter(|byte| **byte != UNASKED).count();
    found.writes.iter_mut().for_each(|(upto, _)| *upto = before(*upto));
    let is_answer = |record: &Vec<u8>| record.first() != Some(&UNASKED);
    let mut answers = client.answered_records.iter().map(is_answer);
    found.record_times.retain(|_| answers.next().unwrap_or(true));
    found.answered_records.retain(is_answer);
    found
}
