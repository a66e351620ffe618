//! The two balances: what came in either went out or is counted under a reason why not.

use super::Run;
use super::checks::{Checked, ensure};
use super::model::Explained;
use super::stages::Kind;
use crate::stats::Stats;

impl Run {
    /// What must hold whenever no connection is open: each has been counted to its end.
    pub(super) fn check_balance(&self, stats: &Stats) -> Checked {
        if stats.open > 0 || self.case.kind.is_datagram() {
            return Ok(());
        }
        let (answers, dropped) = (stats.messages_out, stats.dropped);
        ensure!(
            stats.messages_in == answers + dropped,
            "{} messages are not {answers} answers and {dropped} drops: {stats:?}",
            stats.messages_in
        );
        if self.sent_unasked > 0 {
            // What a host sends to a connection that closes before its worker's turn is nobody's.
            return Ok(());
        }
        // How much of its last read an end in the middle of a stream has answered, nobody can say.
        if !self.case.keeps_length() || self.case.has(|kind| kind == Kind::Ends) {
            return Ok(());
        }
        let (out, undelivered) = (stats.bytes_out, stats.undelivered_bytes);
        let dropped = stats.dropped_bytes;
        ensure!(
            stats.bytes_in == out + undelivered + dropped,
            "{} bytes are not {out} taken, {undelivered} undelivered and {dropped} dropped: {stats:?}",
            stats.bytes_in
        );
        self.meet("a balance");
        Ok(())
    }

    /// An answer that was lost is none.
    pub(super) fn check_answers(&self, stats: &Stats, explained: &[Explained]) -> Checked {
        // What is behind answers that were given up is not explained.
        let is_given_up = self.case.has(|kind| kind == Kind::Function) && !self.told_to_close.is_empty();
        if !self.swapped_at.is_empty() || self.case.is_raw() || is_given_up {
            return Ok(());
        }
        let whole: u64 = explained.iter().map(|explained| explained.whole).sum();
        // Of a send that was cut off, none of the messages counts, though the kernel may have taken some.
        let is_exact = stats.undelivered_bytes == 0;
        ensure!(
            stats.messages_out == whole || (!is_exact && stats.messages_out < whole),
            "the kernel took {whole} answers: {stats:?}"
        );
        Ok(())
    }
}
