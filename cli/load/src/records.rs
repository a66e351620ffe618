//! A socket whose messages are whole: UDP, unix datagram, seqpacket.
//!
//! Datagrams may be lost, and may come in any order: an answer belongs to the oldest message in flight that has it.
//! Since the messages of a script are distinct, that is the very message, unless the chain hides what is distinct in
//! them. Seqpacket records come in order.

use std::collections::VecDeque;

use rustix::io::Errno;

use crate::due::Due;
use crate::script::Script;
use crate::socket::Socket;
use crate::talk::{Broken, Talk, Turn};
use crate::tally::{Tally, Wrong};

#[derive(Debug)]
pub(crate) struct Records {
    socket: Socket,
    connection: usize,
    /// Whether they may be lost.
    is_datagram: bool,
    in_flight_max: usize,
    /// The message of the script that is next.
    next: usize,
    /// Of the messages that are granted and not sent.
    due: Due,
    is_blocked: bool,
    /// In the order in which they were sent; those in front are not done.
    sent: VecDeque<Sent>,
    in_flight: usize,
    /// Where in `sent` the next answer is looked for first.
    hint: usize,
    /// Messages given up not long ago.
    lost: VecDeque<usize>,
    greetings: usize,
    answers: u64,
    received: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    message: usize,
    due: u64,
    at: u64,
    is_done: bool,
}

/// Messages in flight of one socket, if nothing else limits them.
const IN_FLIGHT_MAX: usize = 1024;
/// Lost messages of one socket that are remembered.
const LOST_MAX: usize = 256;

impl Records {
    pub(crate) fn new(
        socket: Socket,
        connection: usize,
        is_datagram: bool,
        in_flight_max: Option<usize>,
        due: Due,
        script: &Script,
    ) -> Records {
        let in_flight_max = in_flight_max.unwrap_or(IN_FLIGHT_MAX);
        Records {
            socket,
            connection,
            is_datagram,
            in_flight_max,
            next: script.first_of(connection),
            due,
            is_blocked: false,
            sent: VecDeque::with_capacity(in_flight_max + 1),
            in_flight: 0,
            hint: 0,
            lost: VecDeque::with_capacity(LOST_MAX + 1),
            greetings: 0,
            answers: 0,
            received: 0,
        }
    }

    fn take(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        if let Some(greeting) = turn.script.greetings.get(self.greetings) {
            self.greetings += 1;
            if greeting != bytes {
                let (connection, at) = (self.connection, self.received);
                turn.tally.wrong(|| Wrong::new(connection, 0, at, greeting, bytes));
            }
        } else if let Some(place) = self.place_of(bytes, turn.script) {
            self.complete(place, bytes.len(), turn);
        } else if self.is_datagram && self.is_late(bytes, turn.script) {
            turn.tally.counts.unasked += 1;
        } else if let Some(oldest) = self.sent.iter().position(|sent| !sent.is_done) {
            let (connection, message, at) = (self.connection, self.answers, self.received);
            let expected = self.sent.get(oldest).map_or(0, |sent| sent.message);
            turn.tally.wrong(|| Wrong::new(connection, message, at, turn.script.answer(expected), bytes));
            self.complete(oldest, bytes.len(), turn);
        } else {
            turn.tally.counts.unasked += 1;
        }
        self.received += bytes.len() as u64;
    }

    /// The message in flight that has this answer.
    fn place_of(&self, answer: &[u8], script: &Script) -> Option<usize> {
        let has = |place: &usize| {
            self.sent.get(*place).is_some_and(|sent| !sent.is_done && script.answer(sent.message) == answer)
        };
        if !self.is_datagram {
            return Some(0).filter(has);
        }
        (self.hint..self.sent.len()).find(has).or_else(|| (0..self.hint.min(self.sent.len())).find(has))
    }

    /// Whether this answers a message that was given up, or any other of the script: once more, then.
    fn is_late(&mut self, answer: &[u8], script: &Script) -> bool {
        if let Some(place) = self.lost.iter().position(|&message| script.answer(message) == answer) {
            self.lost.remove(place);
            return true;
        }
        (0..script.len()).any(|message| script.answer(message) == answer)
    }

    fn complete(&mut self, place: usize, bytes: usize, turn: &mut Turn<'_>) {
        let Some(sent) = self.sent.get_mut(place) else { return };
        sent.is_done = true;
        let due = sent.due;
        self.in_flight -= 1;
        self.answers += 1;
        self.hint = place + 1;
        self.forget_done();
        turn.tally.answer(due, turn.now, bytes);
        self.refill(turn);
    }

    fn forget_done(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.is_done) {
            self.sent.pop_front();
            self.hint = self.hint.saturating_sub(1);
        }
    }

    /// How many messages the next send has: as many as are due and may be in flight, up to the last of the script.
    fn run_len(&self, max: usize, script: &Script) -> usize {
        let due = usize::try_from(self.due.len()).unwrap_or(usize::MAX);
        let room = self.in_flight_max - self.in_flight;
        max.min(due).min(room).min(script.len() - self.next).max(1)
    }

    fn refill(&mut self, turn: &mut Turn<'_>) {
        if turn.refills() {
            turn.tally.ask(turn.now);
            self.due.grant(turn.now);
        }
    }
}

impl Talk for Records {
    fn grant(&mut self, now: u64) {
        self.due.grant(now);
    }

    fn send(&mut self, turn: &mut Turn<'_>) -> Result<(), Broken> {
        let run_max = self.socket.run_max(turn.script.wire_len());
        if run_max.is_some() && self.in_flight > 0 {
            // What is next goes together, when all of the last have come back.
            return Ok(());
        }
        while !self.is_blocked
            && self.in_flight < self.in_flight_max
            && self.sent.len() < IN_FLIGHT_MAX.max(2 * self.in_flight_max)
            && self.due.len() > 0
        {
            let count = run_max.map_or(1, |max| self.run_len(max, turn.script));
            match self.socket.send(turn.script.messages(self.next, count)) {
                // Out of buffers, a datagram is lost on its first step (ENOBUFS, send(2)).
                Ok(_) | Err(Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for _ in 0..count {
                let due = self.due.pop().unwrap_or(turn.now);
                self.sent.push_back(Sent { message: self.next, due, at: turn.now, is_done: false });
                self.in_flight += 1;
                self.next = (self.next + 1) % turn.script.len().max(1);
            }
        }
        Ok(())
    }

    fn unblock(&mut self) {
        self.is_blocked = false;
    }

    fn receive(&mut self, to_end: bool, buffer: &mut [u8], turn: &mut Turn<'_>) -> Result<(), Broken> {
        loop {
            let (len, message_len) = match self.socket.recv_messages(buffer) {
                Ok((0, _)) if !self.is_datagram => return Err(Broken::Ended),
                Ok(came) => came,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            turn.look_at_clock();
            let mut rest = buffer.get(..len).unwrap_or_default();
            loop {
                let (message, behind) = rest.split_at(message_len.min(rest.len()));
                self.take(message, turn);
                rest = behind;
                if rest.is_empty() || message.is_empty() {
                    break;
                }
            }
            // Nothing more can be there that was asked for; what was not is a new event.
            if self.in_flight == 0 && !to_end {
                return Ok(());
            }
        }
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        while self.is_datagram
            && let Some(sent) = self.sent.front().copied()
            && (sent.is_done || sent.at.saturating_add(turn.lost_after) <= turn.now)
        {
            self.sent.pop_front();
            self.hint = self.hint.saturating_sub(1);
            if !sent.is_done {
                self.in_flight -= 1;
                turn.tally.lose(sent.due);
                self.lost.truncate(LOST_MAX - 1);
                self.lost.push_front(sent.message);
                self.refill(turn);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.due.len() > 0
    }

    fn give_up(&mut self, now: u64, tally: &mut Tally) {
        for sent in self.sent.drain(..).filter(|sent| !sent.is_done) {
            tally.give_up(sent.due, now);
        }
        while let Some(due) = self.due.pop() {
            tally.give_up(due, now);
        }
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Instant;

    use resay::SocketKind;

    use super::*;
    use crate::plan::Plan;
    use crate::talk::Clock;
    use crate::tally::{Counts, Span};
    use crate::tests::plan;

    /// Sends so many messages, and takes what `answers` makes of the script; what is not answered then is lost.
    fn counts(plan: &Plan, messages: usize, answers: impl Fn(&Script) -> Vec<Vec<u8>>) -> Counts {
        let script = Script::new(plan, &[]).unwrap();
        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        let mut tally = Tally::new(Span::of(plan)).unwrap();
        let clock = Clock(Instant::now());
        let mut turn =
            Turn { script: &script, tally: &mut tally, clock, now: 1, refill_until: 0, lost_after: 5 };
        let mut records = Records::new(
            Socket::Plain(ours.into()),
            0,
            plan.kind.is_datagram(),
            None,
            Due::new(None, 0, 8),
            &script,
        );
        (0..messages).for_each(|_| {
            turn.tally.ask(1);
            records.grant(1);
        });
        records.send(&mut turn).unwrap();
        assert_eq!(records.in_flight, messages);
        for answer in answers(&script) {
            // A blank one stands for the time that passes.
            if answer == b" " {
                turn.now += 10;
                records.expire(&mut turn);
            } else {
                records.take(&answer, &mut turn);
            }
        }
        turn.now += 10;
        records.expire(&mut turn);
        assert_eq!(
            records.is_busy(),
            !plan.kind.is_datagram() && turn.tally.counts.answered < messages as u64
        );
        records.give_up(turn.now, turn.tally);
        tally.counts
    }

    fn some(script: &Script, messages: &[usize]) -> Vec<Vec<u8>> {
        messages.iter().map(|&message| script.answer(message).to_vec()).collect()
    }

    #[test]
    fn datagrams_are_known_in_any_order_and_what_is_missing_is_lost() {
        for expect in ["", "uppercase | hex"] {
            let plan = Plan { expect: expect.into(), ..plan(SocketKind::Udp) };
            let seen = counts(&plan, 8, |script| some(script, &[3, 1, 0, 7, 6, 4]));
            assert_eq!((seen.answered, seen.wrong, seen.lost, seen.unasked), (6, 0, 2, 0), "{expect}");
        }
    }

    #[test]
    fn late_and_double_datagrams_are_not_wrong_but_others_are() {
        let plan = plan(SocketKind::Udp);
        let seen = counts(&plan, 3, |script| {
            let mut answers = some(script, &[1, 1]);
            answers.push(b" ".to_vec());
            answers.extend(some(script, &[0, 2]));
            answers
        });
        assert_eq!((seen.answered, seen.wrong, seen.lost, seen.unasked), (1, 0, 2, 3));
        let seen = counts(&plan, 3, |_| vec![b"nonsense".to_vec()]);
        assert_eq!((seen.answered, seen.wrong, seen.lost), (1, 1, 2));
    }

    #[test]
    fn answers_that_are_all_the_same_are_taken_in_order() {
        let plan = Plan { expect: "truncate:at=0".into(), ..plan(SocketKind::Udp) };
        let seen = counts(&plan, 4, |script| some(script, &[0, 1, 2, 3, 4]));
        assert_eq!((seen.answered, seen.wrong, seen.lost, seen.unasked), (4, 0, 0, 1));
    }

    #[test]
    fn records_come_in_order() {
        let plan = plan(SocketKind::UnixSeqpacket);
        let seen = counts(&plan, 3, |script| some(script, &[0, 2, 1]));
        assert_eq!((seen.answered, seen.wrong, seen.unanswered), (3, 2, 0));
        let seen = counts(&plan, 3, |script| some(script, &[0]));
        assert_eq!((seen.answered, seen.lost, seen.unanswered), (1, 0, 2));
    }
}
