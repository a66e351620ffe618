//! What must hold: after every turn, at the end of each connection, and of everything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::around::Seen;
use super::host::{Host, without_unasked};
use super::model::{Ending, Explained, Model};
use super::stages::{Kind, Memory};
use super::{Run, transforms};
use crate::channel::{Nothing, channel};
use crate::driver::Close;
use crate::driver::simulator::{Client, Plan};
use crate::options::Frame;
use crate::peer::{Peer, SocketKind};
use crate::stats::{CloseReason, DropReason, Stats};
use crate::worker::Command;

pub(super) type Checked = Result<(), String>;

/// Steps, or waits, after which each worker has had its turns.
const PATIENCE: usize = 60;

/// How late a worker may be: others had their turns before.
pub(super) const SLACK_US: u64 = 200_000;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}
pub(super) use ensure;

impl Run {
    pub(super) fn check_step(&mut self) -> Checked {
        self.check_broken()?;
        self.check_cut_off()?;
        if !self.random.one_in(4) {
            return Ok(());
        }
        let stats = self.listener.stats();
        self.check_before_open(&stats)?;
        ensure!(stats.messages_out <= stats.messages_in, "more answers than messages: {stats:?}");
        let most = u64::from(self.case.options.max_connections);
        ensure!(stats.open <= most, "more than max_connections={most}: {stats:?}");
        ensure!(stats.closed <= stats.accepted, "more ends than beginnings: {stats:?}");
        self.check_balance(&stats)?;
        self.check_waiting()
    }

    /// Nothing of a stream reaches its chain before it is open.
    fn check_before_open(&self, stats: &Stats) -> Checked {
        if self.case.around.is_none() {
            return Ok(());
        }
        let world = self.world.borrow();
        let may_be_open = |client: &&Client| client.head.is_right && client.taken >= client.head.bytes.len();
        let open = world.clients.iter().filter(may_be_open).count();
        let (_, sessions) = transforms::living();
        let most = self.case.chains.iter().map(Vec::len).sum::<usize>() * open;
        ensure!(sessions <= most as i64, "{sessions} sessions, and {open} streams may be open");
        let is_silent = [stats.messages_in, stats.messages_out, stats.bytes_in, stats.bytes_out] == [0; 4];
        ensure!(open > 0 || is_silent, "messages, and no stream is open: {stats:?}");
        Ok(())
    }

    /// A connection that is broken is closed, as soon as no transform has it.
    fn check_broken(&self) -> Checked {
        let world = self.world.borrow();
        if self.settled < PATIENCE {
            return Ok(());
        }
        let is_late = |client: &&Client| {
            !client.is_over() && client.failed_at.is_some_and(|at| at + PATIENCE < world.waits)
        };
        match world.clients.iter().find(is_late) {
            Some(client) => Err(format!("the connection of {} is broken and not closed", client.peer)),
            None => Ok(()),
        }
    }

    /// A drain with enough time cuts off those alone who do not read, or whose message a transform keeps.
    fn check_cut_off(&mut self) -> Checked {
        let closed = self.closed.lock().unwrap().clone();
        let new = closed.get(self.closed_checked..).unwrap_or_default();
        self.closed_checked = closed.len();
        let has_time = self.drained_at.is_some_and(|(_, within)| within >= Duration::from_secs(60));
        if !has_time || self.settled < PATIENCE {
            return Ok(());
        }
        let world = self.world.borrow();
        for (peer, _) in new.iter().filter(|(_, reason)| *reason == CloseReason::CutOff) {
            let is_idle = |client: &&Client| client.is_called(peer) && client.reads_all();
            ensure!(!world.clients.iter().any(|client| is_idle(&client)), "{peer} was cut off for nothing");
        }
        Ok(())
    }

    /// What waits in connections is bounded.
    fn check_waiting(&self) -> Checked {
        let listener = &self.listener;
        let has_frames = !matches!(self.case.options.frame, Frame::Raw);
        let read = listener.limits.read_bytes_max;
        let growth = if self.case.keeps_length() { 1 } else { 8 };
        // One read, or the one message that it completes, is always answered as a whole.
        let message = if has_frames { listener.message_bytes_max } else { 0 };
        let high_water = self.case.options.high_water_bytes;
        // What a layer says for its own sake waits too.
        let own = if self.case.around.is_some_and(|around| around.has_layer) { 8 } else { 0 };
        // So does what the host sends, which has a high water of its own.
        let own = own + if self.case.host == Host::Rests { 0 } else { high_water };
        let is_strict = growth == 1 && !has_frames && self.case.kind != SocketKind::UnixSeqpacket;
        // Without growth, the high water itself is the bound.
        let limit = if is_strict { high_water } else { high_water.max(read) + growth * read.max(message) };
        let limit = limit + own;
        let (to, connections) = channel();
        for (worker, mailbox) in self.workers.iter().zip(&self.shared.mailboxes) {
            if worker.is_alive() {
                let _ = mailbox.push(Command::List { to: to.clone() });
            }
        }
        self.listed.borrow_mut().push((connections, limit));
        let mut listed = self.listed.borrow_mut();
        for (connections, limit) in listed.iter() {
            while let Ok(info) = connections.receive(Duration::ZERO) {
                let waiting = info.waiting_bytes;
                if info.worker > 0 {
                    self.meet("a connection of another worker");
                }
                ensure!(waiting <= *limit, "{waiting} bytes wait for {}, over {limit}", info.peer);
            }
        }
        listed.retain(|(connections, _)| connections.receive(Duration::ZERO) != Err(Nothing::Ever));
        Ok(())
    }

    pub(super) fn check_end(&mut self) -> Checked {
        let stats = self.listener.stats();
        ensure!(stats.open == 0 && stats.accepted == stats.closed, "connections are left: {stats:?}");
        if self.case.kind.is_datagram() {
            self.check_datagrams(&stats)?;
            return self.check_taps(&stats, &[]);
        }
        self.check_closed(&stats)?;
        self.check_balance(&stats)?;
        let reasons = self.reasons();
        let clients = self.clients_within(&reasons)?;
        let world = self.world.borrow();
        let opened = || clients.iter().flatten();
        let answered: usize = opened().map(|client| client.answered.len()).sum();
        ensure!(
            stats.bytes_out == answered as u64,
            "the kernel took {answered} bytes for {} clients: {stats:?}",
            world.clients.len()
        );
        let shown: Vec<Option<Client>> = if self.sent_unasked == 0 {
            clients.clone()
        } else {
            clients.iter().map(|client| client.as_ref().map(without_unasked)).collect()
        };
        let taken: usize = opened().map(|client| client.taken - client.truncated_bytes).sum();
        let truncated: usize = opened().map(|client| client.truncated_bytes).sum();
        let counted = taken as u64..=(taken + truncated) as u64;
        ensure!(counted.contains(&stats.bytes_in), "{taken} bytes were read: {stats:?}");
        let mut explained = Vec::new();
        for (number, (wire, client)) in world.clients.iter().zip(&shown).enumerate() {
            let reason = reasons.get(&number).copied();
            let explanation = client.as_ref().map_or_else(Explained::default, |client| {
                Model::explain(&self.case, client, &self.noticed_at, &self.binding())
            });
            let is_opening =
                |at: &u64| client.as_ref().is_some_and(|c| (wire.accepted_at..c.accepted_at).contains(at));
            if self.swapped_at.iter().any(is_opening) {
                self.meet("a swap while a stream was opening");
            }
            let checked = match client {
                Some(client) => self.check_client(wire, client, reason, &explanation),
                None => self.check_unopened(number, reason),
            };
            checked.map_err(|what| {
                let client = client.as_ref().unwrap_or(wire);
                let texts =
                    (client.plan, &explanation, client.taken, client.input().len(), client.answered.len());
                format!("client {number}, {reason:?}: {what}\n{texts:?}\n{stats:?}")
            })?;
            explained.push(explanation);
        }
        drop(world);
        self.check_hosts(&clients)?;
        self.check_taps(&stats, &clients)?;
        self.check_counts(&stats, &explained)?;
        self.check_answers(&stats, &explained)
    }

    /// The clients as their streams are seen within what stands before and around them; `None` where that never was open.
    fn clients_within(&self, reasons: &BTreeMap<usize, CloseReason>) -> Result<Vec<Option<Client>>, String> {
        let world = self.world.borrow();
        let around = self.case.around;
        self.meet(match around.map(|around| (around.has_preface, around.has_layer)) {
            None => "a stream by itself",
            Some((true, false)) => "a preface",
            Some((true, true)) => "a preface and a layer",
            Some((false, _)) => "a layer",
        });
        if !self.swapped_at.is_empty() && around.is_some_and(|around| around.has_layer) {
            self.meet("a swap within a layer");
        }
        let Some(around) = around else {
            return Ok(world.clients.iter().cloned().map(Some).collect());
        };
        let within = |(number, client)| around.within(client, reasons.get(&number).copied());
        world.clients.iter().enumerate().map(within).collect()
    }

    fn check_unopened(&self, number: usize, reason: Option<CloseReason>) -> Checked {
        let world = self.world.borrow();
        let client = &world.clients[number];
        let (Some(reason), Some(around)) = (reason, self.case.around) else {
            ensure!(client.answered.is_empty(), "a client that was not let in has an answer");
            return Ok(());
        };
        self.meet("a stream that never was open");
        let was_refused = reason == CloseReason::PrefaceRefused && client.named_at().is_none();
        let may_be_late = client.head.is_right || client.head.is_cut;
        if may_be_late && (was_refused || reason == CloseReason::LayerFailed) {
            self.meet("a stream that was not open in time");
        }
        if reason == CloseReason::PrefaceRefused && client.named_at().is_some() {
            self.meet("a host that its preface names, and that has too many");
        }
        let is_over_limit =
            self.hosts_others(&world.clients, number, |began, at, ended| began <= at && at <= ended);
        // A connection that is with a transform keeps its part until that gives it back.
        let is_over_limit = is_over_limit || self.case.has(Kind::may_block);
        let seen = Seen { is_over_limit, is_draining: self.drained_at.is_some() };
        around.check_unopened(client, reason, &seen)?;
        self.check_arrived(client, reason)
    }

    /// No host has more connections than `max_per_peer`, and the host is the one that the preface names.
    fn check_hosts(&self, clients: &[Option<Client>]) -> Checked {
        if !self.case.around.is_some_and(|around| around.has_preface) {
            return Ok(());
        }
        let world = self.world.borrow();
        for (number, _) in clients.iter().enumerate().filter(|(_, client)| client.is_some()) {
            let is_over =
                self.hosts_others(&world.clients, number, |began, at, ended| began < at && at < ended);
            ensure!(!is_over, "{} is over max_per_peer", world.clients[number].peer);
        }
        Ok(())
    }

    /// Whether the host of a client had as many others as it may when the client had said who it is; `counts`: whether one
    /// does that began and ended then.
    fn hosts_others(
        &self,
        clients: &[Client],
        number: usize,
        counts: impl Fn(u64, u64, u64) -> bool,
    ) -> bool {
        let host = |client: &Client| match &client.head.name {
            Some(Peer::Ip(address)) => Some(address.ip()),
            _ => None,
        };
        let (Some(most), Some(at)) = (self.case.options.max_per_peer, clients[number].named_at()) else {
            return false;
        };
        let is_other = |(other, client): &(usize, &Client)| {
            let began = client.named_at().unwrap_or(u64::MAX);
            let ended = client.server_closed.map_or(u64::MAX, |(at, _)| at);
            *other != number && host(client) == host(&clients[number]) && counts(began, at, ended)
        };
        clients.iter().enumerate().filter(is_other).count() >= most as usize
    }

    /// From when on answers have to come from which chain; where that cannot be said, never.
    fn binding(&self) -> Vec<Option<u64>> {
        let is_prompt = self.case.is_calm() && !self.case.has(|kind| kind.may_block() || kind == Kind::Late);
        let chains = &self.case.chains;
        let goes_along = |to: usize| {
            (0..to).all(|from| {
                !chains[from].iter().any(|stage| stage.kind == Kind::Triples) && self.can_carry(from, to)
            })
        };
        let noticed = self.noticed_at.iter().enumerate().map(|(chain, at)| {
            if is_prompt && goes_along(chain) {
                *at
            } else if self.case.has(Kind::may_block) {
                None
            } else {
                // At the latest when its time with the old chain is over.
                at.map(|at| at + self.case.options.swap_timeout.as_micros() as u64 + SLACK_US)
            }
        });
        noticed.collect()
    }

    fn can_carry(&self, from: usize, to: usize) -> bool {
        let [from, to] = [from, to].map(|chain| &self.case.chains[chain]);
        super::model::carry(from, &vec![Memory::default(); from.len()], to).is_some()
    }

    /// A connection that cannot follow a swap is closed when its time is over.
    fn check_left_behind(&self, client: &Client, reason: CloseReason) -> Checked {
        let ends_otherwise = matches!(reason, CloseReason::Drained | CloseReason::IdleTimeout);
        let [swapped] = self.swapped_at[..] else { return Ok(()) };
        let [_, Some(noticed)] = self.noticed_at[..] else { return Ok(()) };
        let is_left = client.accepted_at < swapped
            && !self.can_carry(0, 1)
            && client.reads_all()
            && !self.case.has(Kind::may_block);
        let ended = client.server_finished.or(client.server_closed.map(|(at, _)| (at, 0)));
        let until = noticed + self.case.options.swap_timeout.as_micros() as u64 + 5 * SLACK_US;
        if ends_otherwise && is_left {
            ensure!(ended.is_none_or(|(at, _)| at <= until), "it was left with the old chain");
        }
        Ok(())
    }

    /// Connections' ends as the engine has told them, by client.
    fn reasons(&self) -> BTreeMap<usize, CloseReason> {
        let world = self.world.borrow();
        let number = |peer: &Peer| world.clients.iter().position(|client| client.is_called(peer)).unwrap();
        self.closed.lock().unwrap().iter().map(|(peer, reason)| (number(peer), *reason)).collect()
    }

    /// Every end is told once, and counted under the reason that was told.
    fn check_closed(&self, stats: &Stats) -> Checked {
        let closed = self.closed.lock().unwrap().clone();
        for reason in CloseReason::ALL {
            let told = closed.iter().filter(|(_, told)| *told == reason).count() as u64;
            let counted = stats.closed_by(reason);
            ensure!(told == counted, "{told} connections ended because of {reason}: {stats:?}");
        }
        let reasons = self.reasons().len();
        ensure!(reasons == closed.len(), "the end of a connection was told twice: {closed:?}");
        let world = self.world.borrow();
        let served = world.clients.iter().filter(|client| client.is_accepted()).count() as u64;
        ensure!(served == stats.accepted + stats.rejected, "{served} connections came: {stats:?}");
        let open = world.clients.iter().filter(|client| client.is_accepted() && !client.is_over()).count();
        ensure!(open == 0, "{open} sockets are not closed");
        Ok(())
    }

    fn check_client(
        &self,
        wire: &Client,
        client: &Client,
        reason: Option<CloseReason>,
        explained: &Explained,
    ) -> Checked {
        // The host may close a connection that waits for answers that come later, also one that is ending already and keeps
        // its reason. Those answers are given up, and what is behind them goes on.
        let is_given_up = self.case.has(|kind| kind == Kind::Function)
            && self.told_to_close.iter().any(|peer| wire.is_called(peer));
        ensure!(explained.is_right() || is_given_up, "a wrong answer");
        let Some(reason) = reason else {
            ensure!(client.answered.is_empty(), "a client that was not let in has an answer");
            return Ok(());
        };
        if !is_given_up {
            self.check_complete(client, reason, explained)?;
        }
        self.check_left_behind(client, reason)?;
        self.check_gentle(client, reason)?;
        self.check_arrived(wire, reason)?;
        self.check_times(client, reason)?;
        self.check_delays(client, explained)
    }

    /// What a connection that ends in good order owes.
    fn check_complete(&self, client: &Client, reason: CloseReason, explained: &Explained) -> Checked {
        let has = |endings: &[Ending]| explained.ended.iter().any(|ending| endings.contains(ending));
        let lost = |ending| explained.ended_later.contains(&ending);
        // A raw stream's last read may be lost with the connection.
        let is_raw = self.case.is_raw();
        match reason {
            CloseReason::PeerClosed => {
                ensure!(client.fin_arrived && client.taken == client.input().len(), "there was more to read");
                ensure!(explained.is_finished, "not all is answered");
            }
            CloseReason::TransformClosed => ensure!(
                // A reset does not wait for the answers that come later before it.
                has(&[Ending::Close, Ending::Reset])
                    || lost(Ending::Reset)
                    || (self.case.has(|kind| kind == Kind::Function)
                        && matches!(client.server_closed, Some((_, Close::Reset)))),
                "no transform asked for it, or the answers before are not all there"
            ),
            CloseReason::TransformFailed => ensure!(
                has(&[Ending::Fail]) || (is_raw && lost(Ending::Fail)),
                "no transform failed, or answers are missing"
            ),
            CloseReason::MessageTooLong => {
                ensure!(has(&[Ending::TooLong]), "no message was too long, or answers are missing");
            }
            CloseReason::Drained => {
                let owed = client.drained_at.unwrap_or(usize::MAX);
                ensure!(explained.open_until >= Some(owed), "what had arrived is not all answered");
            }
            CloseReason::ByHost if self.case.host == Host::ShutsDown => {
                let owed = client.drained_at.unwrap_or(usize::MAX);
                ensure!(explained.open_until >= Some(owed), "what had arrived is not all answered");
            }
            CloseReason::IdleTimeout => {
                let finished = client.server_finished;
                let knew = client.ended_at.is_some_and(|at| finished.is_some_and(|(until, _)| at < until));
                ensure!(!knew, "idle, and its peer had ended before");
                let owed = finished.map_or(0, |(_, taken)| taken);
                ensure!(explained.open_until >= Some(owed), "an idle connection was owed answers");
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends that are not a fault of the client's are no resets.
    fn check_gentle(&self, client: &Client, reason: CloseReason) -> Checked {
        use CloseReason::{ChainReplaced, Drained, IdleTimeout, MessageTooLong, PeerClosed};
        let is_gentle = !matches!(client.server_closed, Some((_, Close::Reset)));
        // One that had ended already may be reset by the host.
        let must_be = [PeerClosed, Drained, IdleTimeout, ChainReplaced, MessageTooLong].contains(&reason)
            && self.case.host != Host::Does;
        ensure!(is_gentle || !must_be, "a reset instead of an end");
        Ok(())
    }

    /// What the kernel took gets there, unless one of both sides breaks the connection.
    fn check_arrived(&self, client: &Client, reason: CloseReason) -> Checked {
        let is_broken = client.was_reset || matches!(client.server_closed, Some((_, Close::Reset)));
        if !client.reads_all() || is_broken {
            return Ok(());
        }
        if client.lost_by_close {
            let least = match reason {
                // Nobody waits for peers then.
                CloseReason::CutOff | CloseReason::Stopped | CloseReason::SystemError => return Ok(()),
                _ => Duration::from_millis(500),
            };
            let (Some((finished, _)), Some((closed, _))) = (client.server_finished, client.server_closed)
            else {
                return Err("answers were lost by closing without an end".into());
            };
            let lingered = Duration::from_micros(closed - finished);
            let is_cut = self.drained_at.is_some_and(|(at, within)| closed >= at + within.as_micros() as u64);
            ensure!(lingered >= least || is_cut || self.stopped, "answers were lost after {lingered:?}");
            return Ok(());
        }
        let (got, answered) = (client.received.len(), client.answered.len());
        ensure!(client.received == client.answered, "{got} of {answered} bytes arrived");
        Ok(())
    }

    /// No timeout is early, and none comes that nobody asked for.
    fn check_times(&self, client: &Client, reason: CloseReason) -> Checked {
        let options = &self.case.options;
        let closed = client.server_closed.map_or(u64::MAX, |(at, _)| at);
        let ended = client.server_finished.map_or(closed, |(at, _)| at);
        let last = |log: &[(usize, u64)]| log.last().map_or(0, |(_, at)| *at);
        let micros = |duration: Duration| duration.as_micros() as u64;
        let (least, since, what) = match reason {
            CloseReason::IdleTimeout => {
                // What is read later does not count: it came when all was over.
                let before = client.reads.iter().rev().find(|(_, at)| *at < ended);
                (options.idle_timeout, before.map_or(0, |(_, at)| *at), "idle_timeout")
            }
            CloseReason::WriteTimeout => (Some(options.write_timeout), last(&client.writes), "write_timeout"),
            CloseReason::ChainReplaced => {
                (Some(options.swap_timeout), *self.swapped_at.first().ok_or("no swap")?, "swap_timeout")
            }
            CloseReason::TooSlow => (options.min_rate.map(|rate| rate.within), 0, "min_rate"),
            CloseReason::CutOff => {
                let (at, within) = self.drained_at.ok_or("cut off, and nobody drained")?;
                (Some(within), at, "drain")
            }
            CloseReason::Stopped => {
                ensure!(self.stopped, "stopped, and nobody asked");
                return Ok(());
            }
            CloseReason::PeerReset => {
                ensure!(client.was_reset, "a reset that the client knows nothing of");
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(least) = least else { return Err(format!("{what}, and there is none")) };
        let until =
            if matches!(reason, CloseReason::WriteTimeout | CloseReason::CutOff) { closed } else { ended };
        ensure!(until >= since + micros(least), "{what} came after {} us", until - since);
        if reason == CloseReason::WriteTimeout {
            ensure!(!matches!(client.plan, Plan::Polite), "a client that reads");
        }
        Ok(())
    }

    /// No answer that is held back leaves early.
    fn check_delays(&self, client: &Client, explained: &Explained) -> Checked {
        if !self.swapped_at.is_empty() {
            return Ok(());
        }
        let when = |log: &[(usize, u64)], upto: usize| {
            log.iter().find(|(known, _)| *known >= upto).map(|(_, at)| *at)
        };
        for (offset, delay_ms, end) in &explained.due {
            let left = if self.case.has_records() {
                client.record_times.get(*offset).copied()
            } else {
                when(&client.writes, offset + 1)
            };
            let (Some(read), Some(written)) = (when(&client.reads, *end), left) else {
                continue;
            };
            self.meet("an answer that was held back");
            if self.case.around.is_some_and(|around| around.has_layer) {
                self.meet("an answer that was held back, through a layer");
            }
            ensure!(
                written >= read + delay_ms * 1000,
                "an answer left after {} us of {delay_ms} ms",
                written - read
            );
        }
        Ok(())
    }

    /// What can be counted exactly where nothing went wrong and no chain changed.
    fn check_counts(&self, stats: &Stats, explained: &[Explained]) -> Checked {
        let in_order = [CloseReason::PeerClosed, CloseReason::Drained, CloseReason::IdleTimeout]
            .map(|reason| stats.closed_by(reason));
        if stats.closed == in_order.iter().sum::<u64>() {
            self.meet("all ended in good order");
            // What a host sends to a connection that is ending is lost.
            let is_lost = self.sent_unasked > 0;
            ensure!(stats.undelivered_bytes == 0 || is_lost, "all was delivered: {stats:?}");
            let answered = stats.messages_out + stats.dropped;
            ensure!(stats.messages_in == answered, "{answered} messages had an end: {stats:?}");
        }
        let is_plain = stats.accepted == stats.closed_by(CloseReason::PeerClosed)
            && explained.len() as u64 == stats.accepted
            && self.swapped_at.is_empty()
            && !self.case.is_raw();
        if !is_plain {
            return Ok(());
        }
        self.meet("messages counted");
        let messages: u64 = explained.iter().map(|explained| explained.messages).sum();
        ensure!(stats.messages_in == messages, "{messages} messages came: {stats:?}");
        let dropped: u64 = explained.iter().map(|explained| explained.dropped).sum();
        ensure!(stats.dropped_by(DropReason::ByTransform) == dropped, "{dropped} were dropped: {stats:?}");
        Ok(())
    }
}

/// The seeds have been through all of it.
pub(super) fn check_met(stats: &Stats, met: &BTreeMap<&'static str, u64>) {
    for reason in CloseReason::ALL {
        // The simulator's sockets take records of any length, and its queue of jobs any number.
        if !matches!(
            reason,
            CloseReason::AnswerTooLong | CloseReason::Overloaded | CloseReason::LayerTruncated
        ) {
            assert!(stats.closed_by(reason) > 0, "no connection ended because of {reason}");
        }
    }
    for reason in DropReason::ALL {
        // Those need thousands of them, the kernel's own socket, clients that are servers, or rates: tests/loops.rs has those.
        use DropReason::{Loop, Overloaded, OwnAddress, QueueFull, Rate, SocketFull};
        // Or proxies: tests/proxy.rs.
        use DropReason::{NotFromProxy, ProxyHeader};
        let is_elsewhere = matches!(reason, QueueFull | Overloaded | SocketFull | OwnAddress | Rate | Loop)
            || matches!(reason, ProxyHeader | NotFromProxy);
        if !is_elsewhere {
            assert!(stats.dropped_by(reason) > 0, "no message was dropped because of {reason}");
        }
    }
    assert!(stats.accept_errors > 0 && stats.undelivered_bytes > 0 && stats.rejected > 0);
    for what in [
        "a connection of another worker",
        "a connection that cannot be watched",
        "a send that failed",
        "accept: aborted",
        "accept: out of descriptors",
        "an answer that came later",
        "an answer that came later, and found nobody",
        "an answer that was held back",
        "close a listener",
        "a balance",
        "host: accept again",
        "host: close",
        "host: no room",
        "host: pause",
        "host: pause or resume a listener",
        "host: refuse",
        "host: reset",
        "host: resume",
        "host: send",
        "host: shut down",
        "a host that its preface names, and that has too many",
        "a job that nobody waits for",
        "a layer",
        "a preface",
        "a preface and a layer",
        "a stream by itself",
        "a submitted send",
        "a submitted send that came short",
        "a submitted send that was waited for",
        "a stream that never was open",
        "a stream that was not open in time",
        "a swap while a stream was opening",
        "a swap within a layer",
        "another edition while somebody is connected",
        "all ended in good order",
        "an answer that was held back, through a layer",
        "jobs",
        "jobs in another order",
        "messages counted",
        "stop",
        "results of sends at the end",
        "swap",
        "a tap",
    ] {
        assert!(met.get(what).is_some_and(|n| *n > 0), "never met: {what}");
    }
}
