//! Latencies, summed up, and what there is to tell of them.
//!
//! The histograms are generic, and whoever called their methods would compile them: here it is done once, for speed.

use hdrhistogram::{Counter, Histogram};

use crate::error::LoadError;

/// Latencies are kept with three digits, up to an hour.
const DIGITS: u8 = 3;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// How late the generator may be with a message before that is told.
const LATE_NS: u64 = 1_000_000;

pub(crate) fn histogram<C: Counter>() -> Result<Histogram<C>, LoadError> {
    Ok(Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)?)
}

/// The latencies of a measurement, in nanoseconds.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// A point of the curve of percentiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// A share of all messages, from 0 to 1.
    pub quantile: f64,
    /// The latency, in ns, within which they were answered.
    pub ns: u64,
    /// Messages of at most this latency.
    pub count: u64,
}

impl Latencies {
    pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Histogram<u32>>) -> Result<Latencies, LoadError> {
        let mut all = histogram()?;
        for part in parts {
            for value in part.iter_recorded() {
                all.saturating_record_n(value.value_iterated_to(), value.count_at_value().into());
            }
        }
        Ok(Latencies(all))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The shortest.
    pub fn min(&self) -> u64 {
        self.0.min()
    }

    /// The longest.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// Their standard deviation.
    pub fn stdev(&self) -> f64 {
        self.0.stdev()
    }

    /// The latency within which this share of the messages was answered.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The curve of percentiles, with so many points for each halving of what is left of the messages.
    pub fn curve(&self, points_per_halving: u32) -> Vec<Point> {
        let mut count = 0;
        let point = |value: hdrhistogram::iterators::IterationValue<u64>| {
            count += value.count_since_last_iteration();
            Point { quantile: value.quantile_iterated_to(), ns: value.value_iterated_to(), count }
        };
        self.0.iter_quantiles(points_per_halving).map(point).collect()
    }

    /// Each latency that there is, and how often it is, shortest first.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let pair = |value: hdrhistogram::iterators::IterationValue<u64>| {
            (value.value_iterated_to(), value.count_at_value())
        };
        self.0.iter_recorded().map(pair).collect()
    }
}

/// How late the generator took up messages that its schedule had due, in ns.
#[derive(Debug, Clone, Copy)]
pub struct Lateness {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The worst.
    pub max: u64,
    /// The share of messages that were more than a millisecond late.
    pub over_1ms: f64,
}

impl Lateness {
    pub(crate) fn of(late: &Histogram<u32>) -> Lateness {
        Lateness {
            p50: late.value_at_quantile(0.5),
            p99: late.value_at_quantile(0.99),
            max: late.max(),
            over_1ms: match late.len() {
                0 => 0.0,
                len => 1.0 - late.count_between(0, LATE_NS) as f64 / len as f64,
            },
        }
    }
}
