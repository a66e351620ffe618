//! A connection whose bytes have no bounds: TCP, unix stream.
//!
//! ```text
//! messages   0 1 2 3 4 5 6 7 8 …
//!                |     |     |
//!                |     |     granted: due, and not all of them sent
//!                |     sent, and `partial` bytes of the next
//!                answered, and `answer_at` bytes of the next
//! ```

use rustix::io::Errno;

use crate::due::Due;
use crate::frame;
use crate::script::Script;
use crate::socket::Socket;
use crate::talk::{Broken, Talk, Turn};
use crate::tally::{Tally, Wrong};

#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    connection: usize,
    /// The message of the script that this connection began with.
    first: usize,
    in_flight_max: u64,
    sent: u64,
    partial: usize,
    is_blocked: bool,
    answered: u64,
    answer_at: usize,
    /// Of the messages that are granted and not answered.
    due: Due,
    /// What has come of the greetings.
    greeting_at: usize,
    received: u64,
    /// The answer that is being received, and what is behind it, once it differs from what was expected.
    odd: Vec<u8>,
    odd_is_counted: bool,
}

/// Bytes that one send may have.
const SEND_BYTES_MAX: usize = 1 << 20;

impl Stream {
    pub(crate) fn new(
        socket: Socket,
        connection: usize,
        in_flight_max: Option<usize>,
        due: Due,
        script: &Script,
    ) -> Stream {
        Stream {
            socket,
            connection,
            first: script.first_of(connection),
            in_flight_max: in_flight_max.map_or(u64::MAX, |max| max as u64),
            sent: 0,
            partial: 0,
            is_blocked: false,
            answered: 0,
            answer_at: 0,
            due,
            greeting_at: 0,
            received: 0,
            odd: Vec::new(),
            odd_is_counted: false,
        }
    }

    fn index_of(&self, message: u64, script: &Script) -> usize {
        ((self.first as u64 + message) % script.len().max(1) as u64) as usize
    }

    /// How many messages may be sent in all, by now.
    fn may_send(&self) -> u64 {
        let granted = self.answered + self.due.len();
        granted.min(self.answered.saturating_add(self.in_flight_max))
    }

    fn take(&mut self, mut bytes: &[u8], turn: &mut Turn<'_>) {
        let came = bytes.len();
        if self.greeting_at < turn.script.greetings.iter().map(Vec::len).sum() {
            bytes = self.take_greeting(bytes, turn);
        }
        if !self.odd.is_empty() {
            self.odd.extend_from_slice(bytes);
            bytes = &[];
        }
        while !bytes.is_empty() {
            if !self.is_owed() {
                turn.tally.counts.unasked += 1;
                break;
            }
            let index = self.index_of(self.answered, turn.script);
            let expected = turn.script.answers_from(index).get(self.answer_at..).unwrap_or_default();
            let len = bytes.len().min(expected.len());
            let piece = bytes.get(..len).unwrap_or_default();
            let same = match expected.get(..len) == Some(piece) {
                true => len,
                false => piece.iter().zip(expected).take_while(|(a, b)| a == b).count(),
            };
            let taken = self.advance(same, turn);
            if same < len && taken == same {
                // From here on the bytes are looked at as they came.
                let begun = turn.script.answer(self.index_of(self.answered, turn.script));
                self.odd.extend_from_slice(begun.get(..self.answer_at).unwrap_or_default());
                self.odd.extend_from_slice(bytes.get(taken..).unwrap_or_default());
                break;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        self.received += came as u64;
        if !self.odd.is_empty() {
            self.take_odd(turn);
        }
    }

    /// Some message waits for its answer, or for the rest of it.
    fn is_owed(&self) -> bool {
        self.answered < self.sent + u64::from(self.partial > 0)
    }

    /// So many bytes more are as expected. How many of them were asked for.
    fn advance(&mut self, same: usize, turn: &mut Turn<'_>) -> usize {
        let mut taken = 0;
        while taken < same && self.is_owed() {
            let len = turn.script.answer_len(self.index_of(self.answered, turn.script));
            let step = (len - self.answer_at).min(same - taken);
            taken += step;
            self.answer_at += step;
            if self.answer_at == len {
                self.complete(len, turn);
            }
        }
        taken
    }

    fn complete(&mut self, len: usize, turn: &mut Turn<'_>) {
        self.answered += 1;
        self.answer_at = 0;
        let due = self.due.pop().unwrap_or(turn.now);
        turn.tally.answer(due, turn.now, len);
        if turn.refills() {
            turn.tally.ask(turn.now);
            self.due.grant(turn.now);
        }
    }

    /// The slow way, for answers that are not as expected: frame by frame, as long as the bytes say or, where they
    /// say nothing, as was expected.
    fn take_odd(&mut self, turn: &mut Turn<'_>) {
        while !self.odd.is_empty() {
            if !self.is_owed() {
                turn.tally.counts.unasked += 1;
                self.odd.clear();
                self.answer_at = 0;
                return;
            }
            let script = turn.script;
            let expected = script.answer(self.index_of(self.answered, script));
            let whole = frame::first_len(&script.frame, &self.odd, expected.len());
            let got = self.odd.get(..whole.unwrap_or(self.odd.len())).unwrap_or_default();
            let differs = if whole.is_some() { got != expected } else { !expected.starts_with(got) };
            if differs && !self.odd_is_counted {
                self.odd_is_counted = true;
                let (connection, message) = (self.connection, self.answered);
                let at = self.received - self.odd.len() as u64;
                turn.tally.wrong(|| Wrong::new(connection, message, at, expected, got));
            }
            let Some(len) = whole else { return };
            self.odd.drain(..len);
            self.odd_is_counted = false;
            self.complete(len, turn);
        }
        self.answer_at = 0;
    }

    /// What the server says before it is asked. What is behind it comes back.
    fn take_greeting<'b>(&mut self, bytes: &'b [u8], turn: &mut Turn<'_>) -> &'b [u8] {
        let expected = turn.script.greetings.concat();
        let rest = expected.get(self.greeting_at..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        let (got, behind) = bytes.split_at(len);
        if rest.get(..len) != Some(got) {
            let (connection, at) = (self.connection, self.greeting_at as u64);
            turn.tally.wrong(|| Wrong::new(connection, 0, at, rest, bytes));
        }
        self.greeting_at += len;
        behind
    }
}

impl Talk for Stream {
    fn grant(&mut self, now: u64) {
        self.due.grant(now);
    }

    fn send(&mut self, turn: &mut Turn<'_>) -> Result<(), Broken> {
        match self.socket.flush() {
            Ok(()) => {}
            Err(Errno::AGAIN) => self.is_blocked = true,
            Err(error) => return Err(error.into()),
        }
        while !self.is_blocked && self.sent < self.may_send() {
            let script = turn.script;
            let all = script.messages_from(self.index_of(self.sent, script));
            let count = usize::try_from(self.may_send() - self.sent).unwrap_or(usize::MAX);
            let end =
                count.saturating_mul(script.wire_len()).min(all.len()).min(self.partial + SEND_BYTES_MAX);
            let piece = all.get(self.partial..end).unwrap_or_default();
            match self.socket.send(piece) {
                Ok(len) => {
                    self.is_blocked = len < piece.len();
                    let begun = self.partial + len;
                    self.sent += (begun / script.wire_len()) as u64;
                    self.partial = begun % script.wire_len();
                }
                Err(Errno::AGAIN) => self.is_blocked = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn unblock(&mut self) {
        self.is_blocked = false;
    }

    fn receive(&mut self, to_end: bool, buffer: &mut [u8], turn: &mut Turn<'_>) -> Result<(), Broken> {
        loop {
            let len = match self.socket.recv(buffer) {
                Ok(0) => return Err(Broken::Ended),
                Ok(len) => len,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            turn.look_at_clock();
            self.take(buffer.get(..len).unwrap_or_default(), turn);
            // A read that leaves room has emptied the socket; what comes now is a new event.
            if self.socket.is_emptied_by(len, buffer.len()) && !to_end {
                return Ok(());
            }
        }
    }

    fn expire(&mut self, _: &mut Turn<'_>) {}

    fn is_busy(&self) -> bool {
        self.due.len() > 0
    }

    fn give_up(&mut self, now: u64, tally: &mut Tally) {
        while let Some(due) = self.due.pop() {
            tally.give_up(due, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use resay::SocketKind;
    use resay::options::Frame;

    use super::*;
    use crate::plan::Plan;
    use crate::talk::Clock;
    use crate::tally::Span;
    use crate::tests::plan;

    /// Lets a server answer all of `answers`, in pieces of this many bytes, to so many messages.
    fn counts(plan: &Plan, script: &Script, messages: usize, answers: &[u8], piece: usize) -> Tally {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut tally = Tally::new(Span::of(plan)).unwrap();
        let clock = Clock(Instant::now());
        let mut turn = Turn { script, tally: &mut tally, clock, now: 1, refill_until: 0, lost_after: 0 };
        let mut stream = Stream::new(Socket::Plain(ours.into()), 0, None, Due::new(None, 0, 8), script);
        (0..messages).for_each(|_| {
            turn.tally.ask(1);
            stream.grant(1);
        });
        stream.send(&mut turn).unwrap();
        assert_eq!(stream.sent, messages as u64);
        answers.chunks(piece).for_each(|piece| stream.take(piece, &mut turn));
        stream.give_up(2, turn.tally);
        tally
    }

    fn plans() -> Vec<Plan> {
        let framed = |frame: &str, expect: &str| Plan {
            frame: frame.parse().unwrap(),
            expect: expect.to_owned(),
            duration: Duration::from_millis(10),
            ..plan(SocketKind::UnixStream)
        };
        vec![
            framed("raw", ""),
            framed("raw", "hex"),
            framed("lines", "reverse"),
            framed("len16be", "hex"),
            framed("varint", "prefix:text='>'"),
            framed("delim:0d0a", "uppercase"),
        ]
    }

    fn answers(script: &Script, messages: std::ops::Range<usize>) -> Vec<u8> {
        messages.flat_map(|message| script.answer(message).to_vec()).collect()
    }

    #[test]
    fn right_answers_are_right_however_they_are_cut() {
        for plan in plans() {
            let script = Script::new(&plan, &[]).unwrap();
            let all = answers(&script, 0..5);
            for piece in 1..=all.len() {
                let tally = counts(&plan, &script, 5, &all, piece);
                let counts = tally.counts;
                let seen = (counts.answered, counts.wrong, counts.unasked, counts.unanswered);
                assert_eq!(seen, (5, 0, 0, 0), "{plan:?} {piece}");
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is_and_only_its_answer_is_wrong() {
        for plan in plans() {
            let script = Script::new(&plan, &[]).unwrap();
            let right = answers(&script, 0..3);
            let (begin, len) = (script.answer_len(0), script.answer_len(1));
            // Bytes that are no part of the frame: so the frame still ends where it did.
            let edge = if plan.frame == Frame::Raw { 0 } else { 2 };
            for offset in edge..len - edge {
                let mut all = right.clone();
                all[begin + offset] ^= 1;
                for piece in [1, 7, all.len()] {
                    let tally = counts(&plan, &script, 3, &all, piece);
                    let seen = (tally.counts.answered, tally.counts.wrong, tally.counts.unasked);
                    assert_eq!(seen, (3, 1, 0), "{plan:?} {offset} {piece}");
                    let wrong = tally.first_wrong.unwrap();
                    let place = (wrong.message, wrong.offset, wrong.connection_offset);
                    assert_eq!(place, (1, offset, (begin + offset) as u64), "{plan:?} {piece}");
                }
            }
        }
    }

    #[test]
    fn frames_bring_the_loop_back_after_an_answer_of_another_length() {
        for plan in plans().into_iter().filter(|plan| plan.frame != Frame::Raw) {
            let script = Script::new(&plan, &[]).unwrap();
            let mut all = answers(&script, 0..1);
            frame::write(&plan.frame, b"short", &mut all).unwrap();
            all.extend(answers(&script, 2..4));
            for piece in [1, 3, all.len()] {
                let counts = counts(&plan, &script, 4, &all, piece).counts;
                assert_eq!((counts.answered, counts.wrong), (4, 1), "{plan:?} {piece}");
            }
        }
    }

    #[test]
    fn more_and_less_than_was_asked_is_told() {
        let plan = plan(SocketKind::UnixStream);
        let script = Script::new(&plan, &[]).unwrap();
        let more = counts(&plan, &script, 2, &answers(&script, 0..3), 50).counts;
        assert_eq!((more.answered, more.unanswered), (2, 0));
        assert!(more.unasked > 0);
        let less = answers(&script, 0..2);
        let less = counts(&plan, &script, 2, &less[..less.len() - 1], 50);
        assert_eq!((less.counts.answered, less.counts.unanswered, less.counts.wrong), (1, 1, 0));
        assert_eq!(less.latencies().unwrap().count(), 2, "what is not answered has its latency too");
    }
}
