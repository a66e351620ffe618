//! Figures of one round.

/// What one server did in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Processor time of the server, all its threads and processes, a message.
    pub(crate) cpu_us: f64,
    pub(crate) messages_per_s: f64,
    /// From the answer that made room for a message, or from connecting, until its whole answer was read.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of all datagrams; streams lose none.
    pub(crate) lost: f64,
}
