//! What must hold of datagrams: each has at most one answer, the right one, and what becomes of it is counted.

use std::net::Ipv6Addr;

use super::Run;
use super::checks::{Checked, ensure};
use super::stages::Verdict;
use crate::driver::simulator::Datagram;
use crate::options::Guarded;
use crate::peer::{Peer, SocketKind};
use crate::stats::{DropReason, Stats};
use crate::sys::LocalAddr;

impl Run {
    pub(super) fn check_datagrams(&self, stats: &Stats) -> Checked {
        let world = self.world.borrow();
        let mail = &world.mail;
        let received: Vec<_> = mail.sent.iter().filter(|datagram| datagram.received.is_some()).collect();
        let count = received.len() as u64;
        ensure!(stats.messages_in == count, "{count} datagrams came: {stats:?}");
        let cut: usize = received.iter().map(|d| d.bytes.len().min(self.case.message_bytes_max)).sum();
        ensure!(stats.bytes_in == cut as u64, "{cut} bytes came: {stats:?}");
        let sent: usize = mail.answers.iter().map(|(_, bytes, _)| bytes.len()).sum();
        let answers = mail.answers.len() as u64;
        ensure!(stats.messages_out == answers, "{answers} answers left: {stats:?}");
        ensure!(stats.bytes_out == sent as u64, "{sent} bytes left: {stats:?}");
        let full = stats.dropped_by(DropReason::PeerFull);
        ensure!(full == mail.failed_full, "{} answers found a full queue: {stats:?}", mail.failed_full);
        let failed = stats.dropped_by(DropReason::SendFailed) + stats.dropped_by(DropReason::AnswerTooLong);
        ensure!(failed == mail.failed, "{} answers failed: {stats:?}", mail.failed);
        ensure!(stats.messages_in == stats.messages_out + stats.dropped, "not in balance: {stats:?}");
        // Each answer belongs to a datagram of its own; the longest delay that its chain has was waited for.
        let chains = &self.case.chains[..=self.swapped_at.len()];
        let mut open: Vec<_> = received.iter().map(|datagram| self.case.replies(datagram, chains)).collect();
        for (to, bytes, at) in &mail.answers {
            let fits = |place: &usize| {
                received[*place].from == *to
                    && open[*place].iter().any(|(reply, delay_ms)| {
                        reply == bytes && *at >= received[*place].received.unwrap_or(0) + delay_ms * 1000
                    })
            };
            let Some(place) = (0..open.len()).find(fits) else {
                return Err(format!("a wrong answer for {to}: {}", bytes.escape_ascii()));
            };
            open[place].clear();
        }
        // All that was received before a drain is answered, unless the time for it was up.
        let is_cut = self.drained_at.is_some_and(|(at, within)| world.now >= at + within.as_micros() as u64);
        if !is_cut && !self.stopped && self.swapped_at.is_empty() {
            let owed = received.iter().filter(|datagram| !self.case.replies(datagram, chains).is_empty());
            let owed = owed.count() as u64;
            ensure!(owed == answers + full + failed, "{owed} answers are owed: {stats:?}");
            let lost = stats.dropped_by(DropReason::Undelivered);
            ensure!(lost == 0, "{lost} answers were not sent: {stats:?}");
        }
        Ok(())
    }
}

impl super::Case {
    /// The right answers to a datagram, with the milliseconds that they wait; none where it is to be dropped.
    fn replies(&self, datagram: &Datagram, chains: &[Vec<super::Stage>]) -> Vec<(Vec<u8>, u64)> {
        if datagram.bytes.len() > self.message_bytes_max
            || !is_answerable(datagram)
            || self.is_refused(datagram)
        {
            return Vec::new();
        }
        let answers = chains.iter().map(|chain| super::model::answer(chain, &datagram.bytes));
        let most = match self.kind {
            SocketKind::Udp => {
                self.options.max_amplification.limit(false).saturating_mul(datagram.bytes.len())
            }
            _ => usize::MAX,
        };
        answers
            .filter(|(bytes, _, verdict)| {
                matches!(verdict, Verdict::Answer | Verdict::Close) && bytes.len() <= most
            })
            .map(|(bytes, delay_ms, _)| (bytes, delay_ms))
            .collect()
    }
}

impl super::Case {
    /// Whether the guard drops a datagram.
    fn is_refused(&self, datagram: &Datagram) -> bool {
        let Peer::Ip(from) = &datagram.from else { return false };
        let is_denied = !self.options.deny.is_empty() && from.ip() == Ipv6Addr::LOCALHOST;
        let is_port_refused = self.options.from_ports != Guarded::Auto && from.port() == 20_001;
        let is_marked = self.options.loop_mark != Guarded::Off && (160..=216).contains(&datagram.hops);
        is_denied || is_port_refused || is_marked
    }
}

fn is_answerable(datagram: &Datagram) -> bool {
    let has_name = match &datagram.from {
        Peer::Ip(address) => {
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
        }
        Peer::Path(path) => path.is_absolute(),
        Peer::Abstract(_) => true,
        Peer::Unnamed => false,
    };
    has_name && datagram.to != LocalAddr::Group
}
