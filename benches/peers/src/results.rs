//! What was measured.

use std::time::Duration;

use crate::load::{Memory, Sample};
use crate::peer::Peer;
use crate::workload::Workload;

/// Where the load is, and what that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// On the server's own core: processor time.
    Cost,
    /// On the other core: how long answers take.
    Time,
}

/// All samples of one server under one workload.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) peer: &'static Peer,
    pub(crate) workload: &'static Workload,
    pub(crate) pass: Pass,
    pub(crate) samples: Vec<Sample>,
    /// It could not be measured to the end.
    pub(crate) failure: Option<String>,
}

/// Everything that was found.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    pub(crate) cores: (usize, usize),
    pub(crate) arguments: String,
    pub(crate) cells: Vec<Cell>,
    pub(crate) memory: Vec<(&'static Peer, Result<Memory, String>)>,
    /// Who took part, with versions.
    pub(crate) present: Vec<(&'static Peer, String)>,
    /// Who did not, with the reason.
    pub(crate) left_out: Vec<(&'static Peer, String)>,
    /// Where Resay's time goes, or why that cannot be said.
    pub(crate) flame: Result<String, String>,
}
