//! What must hold of a tap that is open from the beginning: a record for each message, with the bytes that its client has
//! sent, and with the outcome that the statistics count.

use std::time::Duration;

use super::Run;
use super::case::End;
use super::checks::{Checked, ensure};
use crate::driver::simulator::Client;
use crate::peer::Peer;
use crate::stats::{DropReason, Stats};
use crate::tap::{Settings, Tap, TapOutcome, Taps};

/// Nothing may be lost: it is read after each turn.
const CAPACITY_BYTES: usize = 1 << 20;

/// An open tap, and what it has said so far.
pub(super) struct Tapped {
    tap: Tap,
    records: Vec<ModelRecord>,
}

#[derive(Debug)]
struct ModelRecord {
    peer: Peer,
    outcome: TapOutcome,
    data: Vec<u8>,
}

impl Tapped {
    /// Half of all seeds have none, so that both ways of a message are simulated.
    pub(super) fn of(seed: u64, taps: &std::sync::Arc<Taps>) -> Option<Tapped> {
        let settings =
            Settings { answers: true, listener: 0, capacity_bytes: CAPACITY_BYTES, data_bytes_max: 0 };
        let is_tapped = seed.is_multiple_of(2);
        is_tapped.then(|| Tapped { tap: Tap::open(taps, settings).unwrap(), records: Vec::new() })
    }

    pub(super) fn read(&mut self) {
        let Tapped { tap, records } = self;
        let mut take = |record: &crate::tap::TapRecord<'_>| {
            assert_eq!(record.sequence, records.len() as u64 + 1);
            // What a transform has for good, nobody knows any more.
            let is_gone =
                record.outcome == TapOutcome::Dropped(DropReason::Undelivered) && record.data.is_empty();
            assert!(is_gone || record.message_bytes == record.data.len() as u64, "{record:?}");
            let is_answered = matches!(record.outcome, TapOutcome::Answered | TapOutcome::Closed(_));
            assert!(record.answer.is_empty() || is_answered, "{record:?}");
            let (peer, outcome, data) = (record.peer(), record.outcome, record.data.to_vec());
            records.push(ModelRecord { peer, outcome, data });
            true
        };
        while tap.read(Some(Duration::ZERO), &mut take).is_ok_and(|taken| taken > 0) {}
    }
}

impl Run {
    pub(super) fn check_taps(&mut self, stats: &Stats, clients: &[Option<Client>]) -> Checked {
        let Some(mut tapped) = self.tapped.take() else { return Ok(()) };
        tapped.read();
        let Tapped { tap, records } = tapped;
        ensure!(tap.lost() == 0, "{} records are lost", tap.lost());
        self.meet("a tap");
        self.check_record_counts(stats, &records)?;
        if self.case.kind.is_datagram() {
            return self.check_recorded_datagrams(&records);
        }
        let world = self.world.borrow();
        let mut explained = 0;
        for (number, client) in clients.iter().enumerate() {
            let is_its = |record: &&ModelRecord| world.clients[number].is_called(&record.peer);
            let its: Vec<_> = records.iter().filter(is_its).collect();
            explained += its.len();
            match client {
                Some(client) => {
                    let checked = self.check_recorded(client, &its);
                    checked.map_err(|what| format!("client {number}: {what}\n{its:?}"))?;
                }
                None => ensure!(its.is_empty(), "client {number} never was open, and has {its:?}"),
            }
        }
        ensure!(explained == records.len(), "{explained} of {} records are of clients", records.len());
        Ok(())
    }

    fn check_record_counts(&self, stats: &Stats, records: &[ModelRecord]) -> Checked {
        let count = records.len() as u64;
        ensure!(stats.messages_in == count, "{count} records, {stats:?}");
        let with = |wanted: DropReason| {
            let is_it = |record: &&ModelRecord| match record.outcome {
                TapOutcome::Dropped(reason) | TapOutcome::Failed(reason) | TapOutcome::Unsendable(reason) => {
                    reason == wanted
                }
                _ => false,
            };
            records.iter().filter(is_it).count() as u64
        };
        use DropReason::{
            Amplified, BadSource, Denied, FromPort, GroupDestination, LoopMark, QueueFull, TooLong,
            TransformFailed, Unnamed,
        };
        for reason in [
            Amplified,
            BadSource,
            Denied,
            FromPort,
            GroupDestination,
            LoopMark,
            QueueFull,
            TooLong,
            TransformFailed,
            Unnamed,
        ] {
            // Of a raw stream, reads count when all of them is answered, and are recorded before.
            let is_inexact = self.case.is_raw() && reason == TransformFailed;
            let dropped = stats.dropped_by(reason);
            ensure!(is_inexact || with(reason) == dropped, "{} records of {reason}: {stats:?}", with(reason));
        }
        Ok(())
    }

    /// The records of one client, in order, are the messages that it has sent.
    fn check_recorded(&self, client: &Client, records: &[&ModelRecord]) -> Checked {
        let input = &client.input()[..client.taken];
        if self.case.has_records() {
            for (place, record) in records.iter().enumerate() {
                let sent = client.records.get(place).ok_or("a record of nothing")?;
                let is_cut = record.outcome == TapOutcome::Dropped(DropReason::TooLong);
                let is_lost = record.outcome == TapOutcome::Dropped(DropReason::Undelivered);
                let is_right = *sent == record.data || (is_cut && sent.starts_with(&record.data));
                ensure!(is_right || is_lost, "message {place} is another: {}", record.data.escape_ascii());
            }
            return Ok(());
        }
        let units = if self.case.is_raw() {
            Vec::new()
        } else {
            self.case.frame.units(input, self.case.message_bytes_max)
        };
        let mut at = 0;
        for (place, record) in records.iter().enumerate() {
            let is_rest =
                matches!(record.outcome, TapOutcome::Dropped(DropReason::Undelivered | DropReason::TooLong));
            if self.case.is_raw() || is_rest {
                let text = record.data.escape_ascii();
                ensure!(input[at..].starts_with(&record.data), "message {place} is another: {text}");
                at += record.data.len();
                continue;
            }
            let unit = units.get(place).ok_or("a record of nothing")?;
            let body = &input[unit.body.clone()];
            ensure!(record.data == body, "message {place} is another: {}", record.data.escape_ascii());
            at = unit.end;
        }
        Ok(())
    }

    /// Each record is of a datagram of its own.
    fn check_recorded_datagrams(&self, records: &[ModelRecord]) -> Checked {
        let world = self.world.borrow();
        let is_received = |datagram: &&crate::driver::simulator::Datagram| datagram.received.is_some();
        let mut open: Vec<_> = world.mail.sent.iter().filter(is_received).collect();
        for record in records {
            let is_cut = record.outcome == TapOutcome::Dropped(DropReason::TooLong);
            let is_it = |datagram: &&crate::driver::simulator::Datagram| {
                let is_whole = datagram.bytes == record.data;
                datagram.from == record.peer
                    && (is_whole || (is_cut && datagram.bytes.starts_with(&record.data)))
            };
            let place = open.iter().position(is_it).ok_or_else(|| format!("nobody sent {record:?}"))?;
            open.remove(place);
        }
        let is_cut_short = self.stopped || !matches!(self.case.end, End::WhenDone);
        let is_all = open.is_empty() || is_cut_short;
        ensure!(is_all, "{} datagrams have no record", open.len());
        Ok(())
    }
}
