//! Where a measurement was made.

use std::fs;
use std::thread;

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
        let name = rustix::system::uname();
        Machine {
            cores: thread::available_parallelism().map_or(1, usize::from),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model_of(&text)),
            kernel: format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
            architecture: std::env::consts::ARCH,
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
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

fn model_of(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let mut pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    // x86 has the first, many ARM boards the second.
    value("model name").or_else(|| value("Model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(model_of("processor\t: 0\nmodel name\t: A B  C\n").as_deref(), Some("A B  C"));
        assert_eq!(model_of("Model : D\n").as_deref(), Some("D"));
        assert_eq!(model_of("processor: 1\n"), None);
    }
}
