//! A server of one's own: the same command, as a process whose processor time can be read.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use resay_measure::process;
use rustix::process::{Pid, Signal, kill_process};

use super::cores;
use crate::exit::{Exit, Failure};
use crate::lock::lock;

/// How it is started.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) backend: String,
    pub(crate) threads: usize,
    pub(crate) plugin_directories: Vec<PathBuf>,
    /// The core that it is kept on, if on one.
    pub(crate) core: Option<usize>,
}

/// `resay serve`, listening. It ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// Why it could not be kept on its core.
    pub(crate) note: Option<String>,
}

/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long its end may take. It drains, and nobody is connected any more.
const GRACE: Duration = Duration::from_secs(10);

/// The servers that run now: a signal that ends this process ends them too.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Server {
    /// Starts it with this chain on this URL, and waits until it listens.
    pub(crate) fn start(url: &str, chain: &str, settings: &Settings) -> Result<Server, Failure> {
        let system = |what: &str, error: std::io::Error| {
            Failure::new(Exit::Unreachable, format!("{what} for chain {chain:?}: {error}"))
        };
        // Where the system does not say, as it was called.
        let program = std::env::current_exe().ok().or_else(|| std::env::args_os().next().map(PathBuf::from));
        let mut command = Command::new(program.unwrap_or_else(|| "resay".into()));
        command.args(["serve", url, "-q", "-t", chain, "--backend", &settings.backend]);
        command.args(["--threads", &settings.threads.to_string()]);
        for directory in &settings.plugin_directories {
            command.arg("--plugin-dir").arg(directory);
        }
        // Ctrl-C is for this process alone, which ends its servers when they have been measured.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, pinned) = cores::on(settings.core, || command.spawn());
        let mut child = child.map_err(|error| system("start a server", error))?;
        running(|pids| pids.push(child.id()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let note = match (pinned, settings.core) {
            (Err(error), Some(core)) => Some(format!("the server could not be kept on core {core}: {error}")),
            _ => None,
        };
        // From here on it ends with this value, whatever happens.
        let mut server = Server { child, url: String::new(), note };
        let (sender, first_line) = mpsc::channel();
        let listen = move || {
            let mut line = String::new();
            if let Some(stdout) = stdout {
                let mut reader = BufReader::new(stdout);
                let _ = reader.read_line(&mut line);
                let _ = sender.send(line);
                // It prints nothing else; whoever waits for its end finds the pipe open until then.
                let _ = reader.read_to_end(&mut Vec::new());
            }
        };
        thread::Builder::new().spawn(listen).map_err(|error| system("start a thread", error))?;
        let line = first_line.recv_timeout(PATIENCE).unwrap_or_default();
        match line.trim_end().strip_prefix("listening ") {
            Some(url) => server.url = url.to_owned(),
            None => return Err(server.failure(chain, stderr)),
        }
        Ok(server)
    }

    /// It ended instead of listening, or did neither.
    fn failure(&mut self, chain: &str, stderr: Option<impl Read>) -> Failure {
        let _ = self.child.kill();
        let status = self.child.wait().ok();
        let mut said = String::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        let code = status.and_then(|status| status.code());
        let exit = code.and_then(|code| Exit::from_number(&code.to_string()));
        let killed = status.and_then(|status| status.signal());
        let why = match (said.trim().trim_start_matches("resay: "), killed) {
            ("", Some(_)) => "it did not listen in time",
            ("", None) => "it ended without a word",
            (said, _) => said,
        };
        Failure::new(exit.unwrap_or(Exit::Unreachable), format!("a server with chain {chain:?}: {why}"))
    }

    /// Processor time that all its threads have used so far; `None`: the system does not tell.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        process::cpu_time_ns(self.child.id()).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gently first, so that it takes its socket's file away.
        if let Ok(None) = self.child.try_wait()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let since = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if since.elapsed() > GRACE {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(1));
        }
        running(|pids| pids.retain(|&pid| pid != self.child.id()));
    }
}

fn running<R>(work: impl FnOnce(&mut Vec<u32>) -> R) -> R {
    work(&mut lock(&RUNNING))
}

/// Ends the servers that run, for this process ends now.
pub(crate) fn end_all() {
    running(|pids| {
        for pid in pids.iter().filter_map(|&pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
    });
}
