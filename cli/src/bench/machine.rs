//! Where a measurement was made.

use std::thread;

use resay_measure::machine;
use serde::Serialize;

/// The machine, as far as it tells.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// The processor's name, where the system says.
    pub(crate) cpu: Option<String>,
    /// The system and its version, such as `Linux 6.18.5`.
    pub(crate) kernel: String,
    pub(crate) architecture: &'static str,
    /// Of the last minute before, where the system says.
    pub(crate) load_average: Option<f64>,
}

/// A load of more than this share of the cores, before anything was measured, is somebody else's.
const BUSY: f64 = 0.75;

impl Machine {
    pub(crate) fn here() -> Machine {
        let (system, release) = machine::system();
        Machine {
            cores: thread::available_parallelism().map_or(1, usize::from),
            cpu: machine::processor(),
            kernel: format!("{system} {release}"),
            architecture: std::env::consts::ARCH,
            load_average: machine::load_average().and_then(|text| text.parse().ok()),
        }
    }

    /// What is to be said about figures from here.
    pub(crate) fn warning(&self) -> Option<String> {
        let load = self.load_average.filter(|&load| load > BUSY * self.cores as f64)?;
        Some(format!("the machine was busy before: a load average of {load} on {}", self.cores_text()))
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or(self.architecture);
        format!("{cpu}, {}, {}", self.cores_text(), self.kernel)
    }

    fn cores_text(&self) -> String {
        if self.cores == 1 { "1 core".to_owned() } else { format!("{} cores", self.cores) }
    }
}
