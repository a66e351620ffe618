//! A server in a process of its own.

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use resay_measure::process;

use crate::peer::{Peer, Setting};
use crate::place::Place;
use crate::procfs;
use crate::sys;
use crate::workload::Kind;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(15);
const START_LOOK: Duration = Duration::from_millis(1);

/// A server in a process of its own, with a directory of its own; both end with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    scratch: PathBuf,
    pub(crate) place: Place,
}

impl Running {
    /// Starts `peer` on `core`, and returns when it listens.
    pub(crate) fn start(
        peer: &Peer,
        setting: &Setting,
        kind: Kind,
        message_bytes: usize,
        core: usize,
    ) -> Result<Running, Box<dyn Error>> {
        let scratch = std::env::temp_dir().join(format!("resay-peers-{}", std::process::id()));
        // What an earlier server left there.
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)?;
        let place = Place::choose(kind, &scratch)?;
        let mut command = peer.command(setting, kind, &place, &scratch, message_bytes)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(scratch.join("stderr"))?);
        sys::as_server(&mut command, core)?;
        let program = command.get_program().display().to_string();
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let mut running = Running { child, scratch, place };
        let begin = Instant::now();
        while !running.place.is_served(kind) {
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("it did not start: {status}{}", running.said()).into());
            }
            if begin.elapsed() > START_MAX {
                let seconds = START_MAX.as_secs();
                return Err(format!("it does not listen after {seconds} s{}", running.said()).into());
            }
            thread::sleep(START_LOOK);
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last line that it wrote to standard error, with a colon before it.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(self.scratch.join("stderr")).unwrap_or_default();
        text.lines().rfind(|line| !line.trim().is_empty()).map(|line| format!(": {line}")).unwrap_or_default()
    }

    /// The processor time that it and its children have used so far.
    pub(crate) fn cpu_time_ns(&self) -> io::Result<u64> {
        process::family_cpu_time_ns(self.child.id())
    }

    /// The memory that it and its children use, in bytes, and how many processes they are.
    pub(crate) fn memory(&self) -> io::Result<(u64, usize)> {
        procfs::memory(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end, and its children are.
        sys::kill_group(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.scratch);
    }
}
