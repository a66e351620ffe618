//! What a configuration says, as values.

use std::path::PathBuf;
use std::time::Duration;

use resay::net::address::Listen;
use resay::{Backend, Engine};

use super::place::{Document, Marks, TopMarks};
use crate::exit::Failure;
use crate::log::Format;
use crate::metrics::place::Place;
use crate::plugin;

/// A configuration that has been read; what names in it mean has still to be found out.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) threads: usize,
    pub(crate) backend: Backend,
    pub(crate) spin: Duration,
    pub(crate) watchdog: Duration,
    pub(crate) thread_name: String,
    pub(crate) thread_stack: u64,
    pub(crate) thread_cpus: String,
    pub(crate) log: Format,
    pub(crate) drain_timeout: Duration,
    pub(crate) lame_duck: Duration,
    pub(crate) sandbox: bool,
    pub(crate) control: Option<PathBuf>,
    pub(crate) control_read: Option<PathBuf>,
    pub(crate) metrics: Option<Place>,
    pub(crate) plugin_dirs: Vec<PathBuf>,
    /// The chain of all listeners that have none of their own.
    pub(crate) chain: String,
    /// One for each URL, in the order of the file.
    pub(crate) listeners: Vec<Entry>,
    /// Empty where the command line says it all.
    pub(crate) document: Document,
    pub(crate) marks: TopMarks,
}

/// One URL of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) listen: Listen,
    pub(crate) marks: Marks,
}

impl Config {
    /// An engine without listeners.
    pub(crate) fn builder(&self) -> Result<resay::Builder, Failure> {
        plugin::check_directories(&self.plugin_dirs)?;
        Ok(self.bare_builder(&self.plugin_dirs)?.chain(&self.chain)?)
    }

    /// An engine without listeners, without a chain, and with these directories of plugins.
    pub(super) fn bare_builder(&self, directories: &[PathBuf]) -> Result<resay::Builder, Failure> {
        let mut builder = Engine::builder()
            .threads(self.threads)?
            .spin(self.spin)?
            .watchdog(self.watchdog)?
            .backend(self.backend)
            .thread_name(&self.thread_name)?
            .thread_stack(usize::try_from(self.thread_stack).unwrap_or(usize::MAX))?
            .thread_cpus(&self.thread_cpus)?;
        #[cfg(feature = "tls")]
        {
            let filter = resay::Filter::from_table(&resay_tls::TABLE);
            builder = builder.register_filter(
                filter.map_err(|reason| Failure::new(crate::exit::Exit::Plugin, format!("tls: {reason}")))?,
            );
        }
        for directory in directories {
            builder = builder.plugin_dir(directory);
        }
        Ok(builder)
    }
}
