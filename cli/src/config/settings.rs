//! What a configuration says, as values.

use std::path::PathBuf;
use std::time::Duration;

use resay::net::address::Listen;
use resay::{Backend, Engine, SocketKind};

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
}

/// One URL of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) listen: Listen,
    /// Where the listener begins in the file: FILE:LINE.
    pub(crate) place: String,
}

impl Config {
    /// Finds the plugins and tries every chain, without a socket.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let engine = self.builder()?.build()?;
        for entry in &self.listeners {
            let chain = entry.listen.options.chain.as_deref().unwrap_or(&self.chain);
            let (kind, is_framed) = kind_of(entry);
            let tried = resay::DryRun::new(chain, &self.plugin_dirs, kind, is_framed);
            let tried = tried.map(drop).and_then(|()| engine.check_filter(&entry.listen.options));
            tried.map_err(|error| {
                let failure = Failure::from(error);
                Failure::new(
                    failure.exit,
                    format!("{}: listener {:?}: {}", entry.place, entry.name, failure.text()),
                )
            })?;
        }
        drop(engine);
        Ok(())
    }

    /// An engine without listeners.
    pub(crate) fn builder(&self) -> Result<resay::Builder, Failure> {
        plugin::check_directories(&self.plugin_dirs)?;
        let mut builder = Engine::builder()
            .threads(self.threads)?
            .spin(self.spin)?
            .watchdog(self.watchdog)?
            .backend(self.backend)
            .thread_name(&self.thread_name)?
            .thread_stack(usize::try_from(self.thread_stack).unwrap_or(usize::MAX))?
            .thread_cpus(&self.thread_cpus)?
            .chain(&self.chain)?;
        #[cfg(feature = "tls")]
        {
            let filter = resay::Filter::from_table(&resay_tls::TABLE);
            builder = builder.register_filter(
                filter.map_err(|reason| Failure::new(crate::exit::Exit::Plugin, format!("tls: {reason}")))?,
            );
        }
        for directory in &self.plugin_dirs {
            builder = builder.plugin_dir(directory);
        }
        Ok(builder)
    }
}

fn kind_of(entry: &Entry) -> (SocketKind, bool) {
    match entry.listen.address.socket_kind() {
        Some(kind) => (kind, entry.listen.options.frame != resay::options::Frame::Raw),
        // What is handed over shows its kind only when it is there: the widest check is that of messages.
        None => (SocketKind::Udp, true),
    }
}
