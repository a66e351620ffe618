//! Processes: this test binary again, for one test or in another role of it.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::waiting::PATIENCE;

/// The name of the test that runs in a process of its own.
pub(crate) const ISOLATED: &str = "RESAY_TEST_ISOLATED";
const ROLE: &str = "RESAY_TEST_ROLE";

/// Starts this binary again for one test.
pub(crate) fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    die_with_parent(&mut command);
    command
}

/// No helper outlives the process that started it, whatever becomes of that one.
fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and only concerns the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A process that is killed and reaped when this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Waits for the end; `None` when there is none in time.
    pub(crate) fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which part of a test this process plays; `None`: the test itself.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Another process of the same test, in another role. It speaks with [`say`] and is heard with `hear`; it is
/// told something with `tell`, which it reads with [`told`].
pub(crate) struct Helper {
    pub(crate) process: Process,
    output: ChildStdout,
    heard: Vec<u8>,
}

impl Helper {
    /// To be called inside of an isolated test: starts the test's body again, in this role.
    pub(crate) fn start(role: &str) -> Helper {
        Helper::start_with(role, |_| {})
    }

    /// The same, with a last word about the command.
    pub(crate) fn start_with(role: &str, adjust: impl FnOnce(&mut Command)) -> Helper {
        let mut command = again(&std::env::var(ISOLATED).unwrap());
        adjust(&mut command);
        Helper::spawn(role, command)
    }

    /// The same as an argument of another program, such as strace(1). The helper ends with its input.
    pub(crate) fn start_under(role: &str, program: &str, arguments: &[&str]) -> Helper {
        let inner = again(&std::env::var(ISOLATED).unwrap());
        let mut command = Command::new(program);
        command.args(arguments).arg(inner.get_program()).args(inner.get_args());
        die_with_parent(&mut command);
        Helper::spawn(role, command)
    }

    fn spawn(role: &str, mut command: Command) -> Helper {
        command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let output = process.0.stdout.take().unwrap();
        Helper { process, output, heard: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// The next line that the helper says. Its end before that is a failure.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            // The test harness writes to the same pipe, and not always whole lines: ours begin with a mark.
            let start = self.heard.windows(SAID.len()).position(|window| window == SAID.as_bytes());
            if let Some(start) = start
                && let Some(end) = self.heard[start..].iter().position(|&byte| byte == b'\n')
            {
                let line = self.heard[start + SAID.len()..start + end].to_vec();
                self.heard.drain(..=start + end);
                return String::from_utf8(line).unwrap();
            }
            let mut bytes = [0; 4096];
            match self.output.read(&mut bytes).unwrap() {
                0 => panic!("the helper ended: {}", String::from_utf8_lossy(&self.heard)),
                n => self.heard.extend_from_slice(&bytes[..n]),
            }
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.0.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Closes the helper's input and waits for its good end.
    pub(crate) fn finish(mut self) {
        drop(self.process.0.stdin.take());
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).unwrap();
        let status = self.process.wait(PATIENCE).expect("the helper ends");
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&rest));
    }
}

const SAID: &str = "@@ ";

/// In a helper: says a line to the test.
pub(crate) fn say(line: &str) {
    let mut output = io::stdout().lock();
    writeln!(output, "{SAID}{line}").unwrap();
    output.flush().unwrap();
}

/// In a helper: the next line that the test tells; `None`: it is time to end.
pub(crate) fn told() -> Option<String> {
    let mut line = String::new();
    match io::stdin().read_line(&mut line).unwrap() {
        0 => None,
        _ => Some(line.trim_end().to_owned()),
    }
}
