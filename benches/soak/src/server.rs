//! The server, and what its operator and the system do to it meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Listeners in this order: see [`crate::load::Load::new`].
const LISTENERS: [&str; 8] = [
    "tcp://127.0.0.1:0?frame=lines&max_message=64k",
    "tcp://127.0.0.1:0?frame=len32be&high_water=64k",
    "unix:DIR/stream?frame=lines&max_message=64k",
    "unix-seqpacket:DIR/records",
    "udp://127.0.0.1:0",
    "unix-dgram:DIR/datagrams",
    // For those who do not behave, and with faults in its chain.
    "tcp://127.0.0.1:0?frame=lines&max_message=4k&idle_timeout=2s&write_timeout=2s&min_rate=50/2s&max_connections=200",
    "udp://127.0.0.1:0?guard=public&from_ports=any",
];
/// The first that has faults.
const FAULTY: usize = 6;
/// What small letters come back from as they were.
const CHAINS: [&str; 6] = [
    "identity",
    "rot13 | rot13",
    "uppercase | lowercase",
    "hex | hex:mode=decode",
    "base64 | base64:mode=decode",
    "delay:time=2ms",
];
const STREAM_FAULTS: [&str; 6] = [
    "drop:rate=20%",
    "corrupt:rate=20%",
    "slice:size=7",
    "truncate:rate=20%",
    "close:messages=3",
    "reset:messages=2",
];
const DATAGRAM_FAULTS: [&str; 5] =
    ["drop:rate=20%", "corrupt:rate=20%", "duplicate:rate=20%", "reorder:rate=20%", "truncate:rate=20%"];
/// What happens, each so many seconds.
const SWAP_SECONDS: u64 = 1;
const FREEZE_SECONDS: u64 = 23;
const FREEZE: Duration = Duration::from_millis(300);

pub(crate) struct Server {
    process: Child,
    resay: String,
    control: PathBuf,
    log: PathBuf,
    /// Of the sockets: their paths are short.
    place: PathBuf,
    pub(crate) urls: Vec<String>,
    swaps: usize,
}

impl Server {
    pub(crate) fn start(resay: &str, directory: &Path) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("{resay}: {error}");
        let place = std::env::temp_dir().join(format!("resay-soak-{}", std::process::id()));
        fs::create_dir_all(&place).map_err(failed)?;
        let (control, log) = (place.join("control"), directory.join("soak.log"));
        let mut command = Command::new(resay);
        command.arg("serve").args(LISTENERS.map(|url| url.replace("DIR", &place.display().to_string())));
        command
            .args(["--threads", "2", "--control"])
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.stderr(File::create(&log).map_err(failed)?);
        let mut process = command.spawn().map_err(failed)?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let lines = BufReader::new(stdout).lines().take(LISTENERS.len()).map_while(Result::ok);
        let urls: Vec<String> =
            lines.filter_map(|line| line.strip_prefix("listening ").map(str::to_owned)).collect();
        if urls.len() < LISTENERS.len() {
            return Err(fs::read_to_string(&log).unwrap_or_default());
        }
        Ok(Server { process, resay: resay.to_owned(), control, log, place, urls, swaps: 0 })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What is due in this second.
    pub(crate) fn happen(&mut self, since: Duration) -> Result<(), String> {
        if let Some(status) = self.process.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("the server has ended: {status}"));
        }
        let second = since.as_secs();
        if second.is_multiple_of(SWAP_SECONDS) {
            self.swaps += 1;
            for (place, url) in self.urls.clone().iter().enumerate() {
                let chains: &[&str] = match place {
                    ..FAULTY => &CHAINS,
                    FAULTY => &STREAM_FAULTS,
                    _ => &DATAGRAM_FAULTS,
                };
                let chain = chains.get((self.swaps + place) % chains.len()).copied().unwrap_or_default();
                self.control(&["chain", url, chain])?;
            }
        }
        if second % FREEZE_SECONDS == FREEZE_SECONDS - 1 {
            self.signal("-STOP")?;
            std::thread::sleep(FREEZE);
            self.signal("-CONT")?;
        }
        self.control(&["stats"])?;
        self.control(&["connections"])
    }

    fn control(&self, order: &[&str]) -> Result<(), String> {
        let output = Command::new(&self.resay).arg("ctl").arg(&self.control).args(order).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("ctl {order:?}: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(error.to_string()),
        }
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("kill {signal} fails")) }
    }

    /// Ends it gently, and gives its log.
    pub(crate) fn end(mut self) -> Result<String, String> {
        self.control(&["drain"])?;
        let status = self.process.wait().map_err(|error| error.to_string())?;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if status.success() { Ok(log) } else { Err(format!("the server ended with {status}\n{log}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.place);
    }
}
