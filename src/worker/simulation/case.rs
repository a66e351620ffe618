//! What one seed stands for: a listener, its chains, its clients, and what is done to them meanwhile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::around::Surroundings;
use super::frames::Frame;
use super::host::Host;
use super::stages::{HEAD, Kind, MESSAGE_KINDS, RAW_KINDS, Stage};
use crate::driver::simulator::{Client, Datagram, HERE, Mail, Plan, Random};
use crate::options::Options;
use crate::peer::{Peer, SocketKind};
use crate::sys::LocalAddr;

/// How everything is brought to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Drained when all is done.
    WhenDone,
    /// Drained after so many turns.
    Drain { after: usize, within: Duration },
    /// Stopped.
    Stop { after: usize },
    /// The listener is closed; drained when all is done.
    CloseListener { after: usize },
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) kind: SocketKind,
    pub(super) options: Options,
    pub(super) frame: Frame,
    /// What stands before and around its streams.
    pub(super) around: Option<Surroundings>,
    pub(super) message_bytes_max: usize,
    /// The first one, and those that it is swapped for.
    pub(super) chains: Vec<Vec<Stage>>,
    /// After so many turns.
    pub(super) swaps: Vec<usize>,
    pub(super) end: End,
    /// What its host does meanwhile.
    pub(super) host: Host,
    pub(super) workers: usize,
    pub(super) spins: bool,
    /// What messages ask of transforms.
    actions: &'static [u8],
    /// One job in so many turns comes to an end.
    pub(super) job_every: usize,
    /// One command in so many turns reaches a worker.
    pub(super) deliver_every: usize,
    longest: usize,
}

const FRAMES: &[&str] = &[
    "raw",
    "raw",
    "raw",
    "raw",
    "lines",
    "delim:0d0a",
    "delim:3b",
    "len8",
    "len16be",
    "len16le",
    "len32be",
    "len32le",
    "varint",
    "fixed:24",
];

impl Case {
    pub(super) fn of(random: &mut Random) -> Case {
        let mut options = Options::default();
        let kind = random.pick(&[
            SocketKind::Tcp,
            SocketKind::Tcp,
            SocketKind::UnixStream,
            SocketKind::UnixSeqpacket,
            SocketKind::Udp,
            SocketKind::UnixDatagram,
        ]);
        let mut set = |key: &str, value: &str| options.set(key, value).unwrap();
        let has_frames = matches!(kind, SocketKind::Tcp | SocketKind::UnixStream);
        let frame = if has_frames { random.pick(FRAMES) } else { "raw" };
        set("frame", frame);
        set("high_water", random.pick(&["1k", "3k", "16k", "256k"]));
        let message_bytes_max = random.pick(&[600, 65_536]);
        set("max_message", &message_bytes_max.to_string());
        if random.one_in(4) {
            set("idle_timeout", "20s");
        }
        if random.one_in(4) {
            set("min_rate", "100/5s");
        }
        if random.one_in(2) {
            set("swap_timeout", "3s");
        }
        if random.one_in(12) {
            set("max_connections", "2");
        }
        let around = if has_frames { Surroundings::of(random) } else { None };
        if random.one_in(12) && kind == SocketKind::UnixStream {
            set("max_per_peer", "1");
        } else if around.is_some_and(|around| around.has_preface) && random.one_in(3) {
            set("max_per_peer", random.pick(&["1", "2"]));
        }
        if kind == SocketKind::Udp && random.one_in(2) {
            set("max_amplification", random.pick(&["2", "off"]));
        }
        if kind == SocketKind::Udp {
            if random.one_in(4) {
                set("deny", "::1");
            }
            if random.one_in(4) {
                set("from_ports", "20000,20002-20009");
            }
            if random.one_in(3) {
                set("loop_mark", "off");
            }
        }
        let is_raw = has_frames && frame == "raw";
        let swaps: Vec<_> = match random.below(6) {
            0 => vec![random.below(200)],
            1 => vec![random.below(60), 60 + random.below(400)],
            _ => Vec::new(),
        };
        let first = chain(random, is_raw);
        let mut chains = vec![first];
        for _ in &swaps {
            let next = if random.one_in(3) { chain(random, is_raw) } else { rekeyed(&chains[0], random) };
            chains.push(next);
        }
        let end = match random.below(10) {
            0 | 1 => End::Drain {
                after: if random.one_in(2) { random.below(12) } else { random.below(400) },
                within: Duration::from_millis(random.pick(&[50, 60_000])),
            },
            2 => End::Stop { after: random.below(400) },
            3 => End::CloseListener { after: random.below(100) },
            _ => End::WhenDone,
        };
        Case {
            kind,
            frame: Frame::named(frame),
            around,
            message_bytes_max,
            longest: if random.one_in(4) { 8000 } else { 300 },
            actions: random.pick(&[&b""[..], b"DWWPP", b"DWPGGGSS", b"DWPGSCRF", b"CRFDD", b"CxxxWP"]),
            swaps,
            chains,
            end,
            workers: 1 + random.below(2),
            host: if kind.is_datagram() { Host::Rests } else { Host::of(random) },
            spins: random.one_in(4),
            deliver_every: random.pick(&[1, 4, 40]),
            job_every: random.pick(&[1, 3, 30, 300]),
            options,
        }
    }

    /// One that a test writes down: one worker, of which nobody asks anything. `chains`: the first one, and those that it may be
    /// swapped for.
    #[cfg(test)]
    pub(super) fn plain(kind: SocketKind, settings: &[(&str, &str)], chains: Vec<Vec<Stage>>) -> Case {
        let mut options = Options::default();
        settings.iter().for_each(|(key, value)| options.set(key, value).unwrap());
        Case {
            kind,
            options,
            frame: Frame::named("raw"),
            around: None,
            message_bytes_max: 65_536,
            chains,
            swaps: Vec::new(),
            end: End::WhenDone,
            host: Host::Rests,
            workers: 1,
            spins: false,
            actions: b"",
            job_every: 1,
            deliver_every: 1,
            longest: 0,
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.frame == Frame::Raw && matches!(self.kind, SocketKind::Tcp | SocketKind::UnixStream)
    }

    pub(super) fn has_records(&self) -> bool {
        self.kind == SocketKind::UnixSeqpacket
    }

    pub(super) fn encode(&self, answer: &[u8], like: Option<&[u8]>) -> Option<Vec<u8>> {
        self.frame.encode(answer, like)
    }

    /// No message asks for anything.
    pub(super) fn is_calm(&self) -> bool {
        self.actions.is_empty()
    }

    /// Answers are as long as what they answer.
    pub(super) fn keeps_length(&self) -> bool {
        let changes = self.actions.iter().any(|action| b"GS".contains(action));
        !changes && !self.stages().any(|stage| stage.kind.changes_length())
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.chains.iter().flatten()
    }

    pub(super) fn has(&self, has: impl Fn(Kind) -> bool) -> bool {
        self.stages().any(|stage| has(stage.kind))
    }

    pub(super) fn clients(&self, random: &mut Random) -> Vec<Client> {
        if self.kind.is_datagram() {
            return Vec::new();
        }
        (0..1 + random.below(6)).map(|number| self.client(number, random)).collect()
    }

    fn client(&self, number: usize, random: &mut Random) -> Client {
        let mut records: Vec<_> = (0..random.below(12)).map(|id| self.framed(id, random)).collect();
        if let Some(last) = records.last_mut().filter(|_| !self.has_records() && random.one_in(3)) {
            // A last message without its end.
            last.truncate(last.len() - random.below(4).min(last.len()));
        }
        let head = self.around.map(|around| (around, around.head(number, random)));
        let bytes = records.iter().map(Vec::len).sum::<usize>();
        let bytes = bytes + head.as_ref().map_or(0, |(_, head)| head.bytes.len());
        let plan = match random.below(10) {
            0 => Plan::Reset { after: random.below(bytes + 1) },
            1 => Plan::Stall { after: random.below(bytes + 1) },
            2 | 3 if head.as_ref().is_some_and(|(_, head)| head.is_cut) => Plan::Patient,
            2 => Plan::Patient,
            3 if bytes < 200 => Plan::Trickle,
            _ => Plan::Polite,
        };
        let peer = if self.kind.is_unix() {
            Peer::Path(PathBuf::from(format!("/client/{number}")))
        } else {
            Peer::Ip(SocketAddr::from(([127, 0, 0, 1], 20_000 + number as u16)))
        };
        let mut client = Client::new(plan, peer, records, 64 + random.below(8192));
        if let Some((around, head)) = head {
            client.put_behind(head, |byte| around.flip(byte));
        }
        client.connects_after = if random.one_in(3) { random.below(400) } else { 0 };
        client
    }

    /// What a client sends to mean a message.
    fn framed(&self, id: usize, random: &mut Random) -> Vec<u8> {
        let mut message = self.message(id, random);
        match self.frame {
            Frame::Fixed(length) => message.resize(length, b'f'),
            Frame::Length { width: 1, .. } => message.truncate(255),
            _ => {}
        }
        self.frame.encode(&message, None).unwrap()
    }

    fn message(&self, id: usize, random: &mut Random) -> Vec<u8> {
        let is_bytewise_model = self.is_raw() && !self.swaps.is_empty();
        let longest = if is_bytewise_model { self.longest.min(60) } else { self.longest };
        let mut length = random.below(longest);
        if !self.is_raw() && !random.one_in(30) {
            length = length.min(self.message_bytes_max);
        }
        let alphabet = b"abcdefghijklmnopqrstuvwxyz \n\r;";
        let mut message: Vec<u8> = (0..length).map(|_| random.pick(alphabet)).collect();
        if length >= HEAD && !self.is_raw() {
            let action = if self.actions.is_empty() { b'x' } else { random.pick(self.actions) };
            let stage = if action == b'W' && random.one_in(3) { b'*' } else { b'0' + random.below(3) as u8 };
            let head = [action, stage, b'a' + random.below(12) as u8];
            message[..3].copy_from_slice(&head);
            message[3..HEAD].copy_from_slice(format!("____{id:05}").as_bytes());
        }
        message
    }

    /// All datagrams that the clients of a datagram socket send.
    pub(super) fn mail(&self, random: &mut Random) -> Mail {
        let mut mail = Mail::default();
        mail.is_unix = self.kind.is_unix();
        if self.kind.is_datagram() {
            let count = random.below(60);
            mail.sent.extend((0..count).map(|id| self.datagram(id, random)));
        }
        mail
    }

    fn datagram(&self, id: usize, random: &mut Random) -> Datagram {
        let number = random.below(4) as u16;
        let ip = |ip: [u8; 4], port| Peer::Ip(SocketAddr::from((ip, port)));
        let from = if self.kind.is_unix() {
            match random.below(12) {
                0 => Peer::Unnamed,
                1 => Peer::Path(PathBuf::from("relative")),
                2..6 => Peer::Abstract(format!("client-{number}").into_bytes()),
                _ => Peer::Path(PathBuf::from(format!("/client/{number}"))),
            }
        } else {
            match random.below(14) {
                0 => ip([127, 0, 0, 1], 0),
                1 => ip([0, 0, 0, 0], 20_000),
                2 => ip([224, 0, 0, 1], 20_000),
                3..6 => Peer::Ip(SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], 20_000 + number))),
                _ => ip([127, 0, 0, 1], 20_000 + number),
            }
        };
        let to = match (self.kind, random.below(12)) {
            (SocketKind::UnixDatagram, _) => LocalAddr::Bound,
            (_, 0) => LocalAddr::Group,
            _ => HERE,
        };
        let hops =
            if self.kind.is_unix() { 0 } else { random.pick(&[0, 64, 64, 128, 255, 159, 160, 216, 217]) };
        Datagram { from, to, hops, bytes: self.message(id, random), received: None }
    }
}

/// None to three stages.
fn chain(random: &mut Random, is_raw: bool) -> Vec<Stage> {
    let kinds = if is_raw { RAW_KINDS } else { MESSAGE_KINDS };
    let mut chain: Vec<Stage> = Vec::new();
    for index in 0..random.below(4) as u8 {
        let kind = random.pick(kinds);
        // One that greets when a call brings nothing must not stand behind one that gives nothing; which of two ends
        // comes first depends on the reads.
        let is_clear = match kind {
            Kind::Hello => index == 0,
            Kind::Ends => !chain.iter().any(|stage| stage.kind == Kind::Ends),
            _ => true,
        };
        let kind = if is_clear { kind } else { Kind::Triples };
        let param = if kind == Kind::Late { random.below(60) } else { 1 + random.below(3000) };
        chain.push(Stage { kind, index, key: random.below(26) as u8, param: param as u64 });
    }
    chain
}

/// The same chain with other options.
fn rekeyed(chain: &[Stage], random: &mut Random) -> Vec<Stage> {
    let rekeyed = chain.iter().map(|stage| Stage { key: random.below(26) as u8, ..*stage });
    rekeyed.collect()
}
