//! What stands before and around the streams of a seed, and the clients' side of it: an address and a line answer_next before
//! the stream, and a layer that begins with a hello from both sides and turns every bit around from then on.

use std::net::SocketAddr;
use std::time::Duration;

use super::checks::{Checked, SLACK_US, ensure};
use crate::connection::{Around, Layer, MakeAround, Preface, PrefaceProgress};
use crate::driver::simulator::{Client, Head, Random};
use crate::peer::Peer;
use crate::stats::CloseReason;

/// What the listener of a seed puts around its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub(super) has_preface: bool,
    pub(super) has_layer: bool,
    /// How long a connection may take to be open.
    pub(super) within: Duration,
}

const HELLO: &[u8] = b"hello";
/// What a client hears whose hello is none.
const WRONG: &[u8] = b"what?";
const BYE: &[u8] = b"bye";

impl Surroundings {
    /// `None`: a stream is open at once.
    pub(super) fn of(random: &mut Random) -> Option<Surroundings> {
        let (has_preface, has_layer) =
            random.pick(&[(false, false), (false, false), (true, false), (false, true), (true, true)]);
        let within = Duration::from_secs(random.pick(&[1, 5]));
        (has_preface || has_layer).then_some(Surroundings { has_preface, has_layer, within })
    }

    pub(super) fn maker(self) -> MakeAround {
        MakeAround::new(move || {
            let preface = self.has_preface.then(|| Box::new(Address) as Box<dyn Preface>);
            let layer = self.has_layer.then(|| Box::new(Flipped::default()) as Box<dyn Layer>);
            Around::new(preface, layer, self.within)
        })
    }

    /// What a client says first: mostly what is right, else something wrong, or the beginning alone.
    pub(super) fn head(self, number: usize, random: &mut Random) -> Head {
        // A few hosts share all clients.
        let address = SocketAddr::from(([10, 0, 0, random.below(3) as u8], 30_000 + number as u16));
        let mut name = if self.has_preface { format!("{address}\n").into_bytes() } else { Vec::new() };
        let mut hello = if self.has_layer { HELLO.to_vec() } else { Vec::new() };
        let mut head = Head {
            name: self.has_preface.then_some(Peer::Ip(address)),
            name_bytes: name.len(),
            ..Head::default()
        };
        match random.below(10) {
            0 if self.has_preface => {
                name = random.pick(&[&b"\n"[..], b"nobody\n", &[b'1'; 5000]]).to_vec();
                head.name = None;
            }
            1 if self.has_layer => *random.pick_mut(&mut hello) ^= 1,
            2 => {
                let length = random.below(name.len() + hello.len());
                let hello_bytes = length.saturating_sub(name.len());
                name.truncate(length);
                hello.truncate(hello_bytes);
                head.is_cut = true;
            }
            _ => head.is_right = true,
        }
        head.bytes = [name, hello].concat();
        head
    }

    /// What a client sends to say so, and what it hears.
    pub(super) fn flip(self, byte: u8) -> u8 {
        if self.has_layer { !byte } else { byte }
    }

    /// A client as its stream is seen within all that. `None`: its stream never was open.
    pub(super) fn within(self, wire: &Client, reason: Option<CloseReason>) -> Result<Option<Client>, String> {
        let head = wire.head.bytes.len();
        let is_open = wire.head.is_right && wire.taken >= head && reason != Some(CloseReason::PrefaceRefused);
        if !is_open {
            return Ok(None);
        }
        let mut answered = &wire.answered[..];
        let mut hello = 0;
        if self.has_layer {
            hello = HELLO.len().min(answered.len());
            ensure!(answered[..hello] == HELLO[..hello], "no hello: {:?}", &answered[..hello]);
            answered = &answered[hello..];
            let byes = (0..=BYE.len()).rev().map(|count| &BYE[..count]);
            let bye = byes.into_iter().find(|bye| answered.ends_with(bye)).unwrap_or_default();
            ensure!(wire.server_finished.is_none() || bye == BYE, "an end without a bye");
            answered = &answered[..answered.len() - bye.len()];
        }
        let answered = answered.iter().map(|byte| self.flip(*byte)).collect();
        let input = wire.input()[head..].iter().map(|byte| self.flip(*byte)).collect();
        Ok(Some(wire.behind_head(input, hello, answered)))
    }

    /// What a client may see, and how it may end, whose stream never was open.
    pub(super) fn check_unopened(self, client: &Client, reason: CloseReason, seen: &Seen) -> Checked {
        use CloseReason::{
            ByHost, CutOff, Drained, LayerFailed, PeerClosed, PeerReset, PrefaceRefused, Stopped,
            SystemError, TransformFailed,
        };
        let Head { is_right, is_cut, name, bytes, .. } = &client.head;
        let is_wrong = !is_right && !is_cut;
        let said =
            if is_wrong && self.has_layer && (name.is_some() || !self.has_preface) { WRONG } else { b"" };
        ensure!(said.starts_with(&client.answered), "an answer to a stream that is not open");
        match reason {
            PrefaceRefused if is_wrong && self.has_preface && name.is_none() => {}
            PrefaceRefused if client.named_at().is_some() => {
                ensure!(seen.is_over_limit, "a good name was refused");
            }
            LayerFailed if is_wrong && !said.is_empty() => {}
            // Its time was over: that of the preface, or that of the layer.
            PrefaceRefused | LayerFailed => {
                let has_one = if reason == PrefaceRefused { self.has_preface } else { self.has_layer };
                ensure!(has_one, "there is none");
                let closed = client.server_closed.map_or(u64::MAX, |(at, _)| at);
                let due = client.accepted_at + self.within.as_micros() as u64;
                ensure!(closed >= due, "{} us too early", due - closed);
                ensure!(closed <= due + 10 * SLACK_US, "{} us too late", closed - due);
            }
            PeerClosed => ensure!(client.ended_at.is_some(), "an end that nobody told of"),
            PeerReset => ensure!(client.was_reset, "a reset that the client knows nothing of"),
            Drained => ensure!(seen.is_draining, "drained, and nobody drained"),
            ByHost | CutOff | Stopped | SystemError | TransformFailed => {}
            _ => return Err("a stream that was never open cannot end so".into()),
        }
        let is_bounded = client.taken <= bytes.len().max(4096) + client.largest_read();
        ensure!(is_bounded || reason == LayerFailed, "{} bytes were read before the stream", client.taken);
        Ok(())
    }
}

/// What of all the others concerns a client.
pub(super) struct Seen {
    /// Others of its host were as many as `max_per_peer` allows.
    pub(super) is_over_limit: bool,
    pub(super) is_draining: bool,
}

/// An address and a line answer_next.
#[derive(Debug)]
struct Address;

impl Preface for Address {
    fn received(&mut self, bytes: &[u8]) -> PrefaceProgress {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return PrefaceProgress::NeedMore;
        };
        match std::str::from_utf8(&bytes[..end]).ok().and_then(|text| text.parse().ok()) {
            Some(address) => PrefaceProgress::Done { used: end + 1, peer: Some(Peer::Ip(address)) },
            None => PrefaceProgress::Refuse("no address"),
        }
    }
}

/// Waits for a hello, says the same, and turns every bit around from then on.
#[derive(Debug, Default)]
struct Flipped {
    heard: usize,
    is_broken: bool,
    is_closed: bool,
}

impl Layer for Flipped {
    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        assert!(!self.is_broken, "a layer that has failed hears no more");
        for byte in wire {
            if self.heard == HELLO.len() {
                plain.push(!*byte);
            } else if *byte == HELLO[self.heard] {
                self.heard += 1;
                reply.extend_from_slice(if self.heard == HELLO.len() { HELLO } else { b"" });
            } else {
                self.is_broken = true;
                reply.extend_from_slice(WRONG);
                return Err("no hello");
            }
        }
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.heard == HELLO.len() && !self.is_broken
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        assert!(
            self.is_established() && !self.is_closed,
            "nothing is said before the hello, or after the bye"
        );
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        assert!(!std::mem::replace(&mut self.is_closed, true), "one bye is enough");
        wire.extend_from_slice(BYE);
    }
}
