//! A line of a certain speed. What it has still to carry is one number: the moment until which it is busy, in
//! nanoseconds.

use core::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    bytes_a_second: u64,
    /// How far ahead of the line its bytes may leave.
    burst_ns: u64,
}

impl Line {
    /// `bytes_a_second` is not 0.
    pub(crate) fn new(bytes_a_second: u64, burst_bytes: u64) -> Self {
        let mut line = Self { bytes_a_second, burst_ns: 0 };
        line.burst_ns = line.time_ns(burst_bytes);
        line
    }

    /// Until when a line is busy that gets so many more bytes now.
    pub(crate) fn busy_until(&self, busy_ns: u64, now_ns: u64, bytes: usize) -> u64 {
        busy_ns.max(now_ns).saturating_add(self.time_ns(bytes as u64))
    }

    /// How long bytes wait after which the line is busy until then.
    pub(crate) fn delay(&self, busy_ns: u64, now_ns: u64) -> Duration {
        Duration::from_nanos(busy_ns.saturating_sub(self.burst_ns).saturating_sub(now_ns))
    }

    /// How long it takes to carry so many bytes, rounded up.
    fn time_ns(&self, bytes: u64) -> u64 {
        let ns = (u128::from(bytes) * u128::from(SECOND_NS)).div_ceil(u128::from(self.bytes_a_second));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delays, in milliseconds, of bytes that come at certain times.
    fn delays_ms(line: Line, arrivals: &[(u64, usize)]) -> Vec<u128> {
        let mut busy_ns = 0;
        let delay = |&(now_ms, bytes): &(u64, usize)| {
            let now_ns = now_ms * 1_000_000;
            busy_ns = line.busy_until(busy_ns, now_ns, bytes);
            line.delay(busy_ns, now_ns).as_millis()
        };
        arrivals.iter().map(delay).collect()
    }

    #[test]
    fn bytes_wait_for_those_before_and_for_themselves() {
        let line = Line::new(1000, 0);
        assert_eq!(delays_ms(line, &[(0, 10), (0, 10), (5, 10), (30, 1), (5000, 10)]), [10, 20, 25, 1, 10]);
    }

    #[test]
    fn a_burst_is_saved_up_in_idle_time_and_no_more_of_it() {
        let line = Line::new(1000, 100);
        let arrivals = [(0, 100), (0, 1), (0, 100), (50, 0), (151, 50), (200, 50), (200, 1), (9000, 101)];
        assert_eq!(delays_ms(line, &arrivals), [0, 1, 101, 51, 0, 1, 2, 1]);
    }

    #[test]
    fn nothing_overflows() {
        for line in [Line::new(1, u64::MAX), Line::new(u64::MAX, 0), Line::new(1, 0)] {
            let busy_ns = line.busy_until(u64::MAX, u64::MAX, usize::MAX);
            assert_eq!(line.delay(busy_ns, u64::MAX), Duration::ZERO);
        }
        assert_eq!(Line::new(3, 0).busy_until(0, 0, 1), 333_333_334);
    }
}
