//! Processes that do not outlive their test, and waits that end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Far more than anything takes, on a machine that is busy too; a test that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The command under test, with nothing of the user's around it.
pub(crate) fn resay<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resay"));
    command.args(arguments).env_remove("RESAY_PLUGIN_PATH").env_remove("XDG_STATE_HOME").env_remove("HOME");
    command
}

/// A process that is killed when the test is done with it.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the process is there");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_until("the process ends", || self.0.try_wait().expect("it is a child of ours"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer.
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a process has written so far, read by a thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Text>>);

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// More may come.
    is_open: bool,
}

impl Written {
    pub(crate) fn follow(mut source: impl Read + Send + 'static) -> Written {
        let written = Written::default();
        let ours = written.clone();
        written.0.lock().unwrap().is_open = true;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                ours.0.lock().unwrap().bytes.extend_from_slice(&buffer[..count]);
            }
            ours.0.lock().unwrap().is_open = false;
        });
        written
    }

    /// All of it: a process that has ended may have written more than was read by now.
    pub(crate) fn to_end(&self) -> String {
        wait_until("the end of what is written", || {
            let is_open = self.0.lock().unwrap().is_open;
            (!is_open).then(|| self.text())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().bytes).into_owned()
    }

    pub(crate) fn wait_for(&self, part: &str) -> String {
        let what = format!("{part:?} is written");
        wait_until(&what, || Some(self.text()).filter(|text| text.contains(part)))
    }
}

/// `resay serve`, ready.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) urls: Vec<String>,
    pub(crate) stderr: Written,
    stdout: Receiver<String>,
}

impl Server {
    /// Starts it on `urls` and waits for a line about each.
    pub(crate) fn start(urls: &[&str], others: &[&str]) -> Server {
        let mut command = resay(["serve"]);
        command.args(urls).args(others);
        Server::of(command, urls.len(), None)
    }

    /// Starts `command`, with `stderr` where that is not to be followed.
    pub(crate) fn of(mut command: Command, urls: usize, stderr: Option<Stdio>) -> Server {
        command.stdin(Stdio::null());
        Server::launch(command, urls, stderr)
    }

    /// The same with the standard input that `command` has.
    pub(crate) fn launch(mut command: Command, urls: usize, stderr: Option<Stdio>) -> Server {
        let followed = stderr.is_none();
        command.stdout(Stdio::piped()).stderr(stderr.unwrap_or_else(Stdio::piped));
        let mut process = Process(command.spawn().unwrap());
        let source = BufReader::new(process.0.stdout.take().unwrap());
        let (sender, stdout) = mpsc::channel();
        thread::spawn(move || {
            for line in source.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stderr =
            if followed { Written::follow(process.0.stderr.take().unwrap()) } else { Written::default() };
        let urls = (0..urls)
            .map(|_| {
                let line = stdout.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}", stderr.text()));
                line.strip_prefix("listening ").expect("nothing else is printed").to_owned()
            })
            .collect();
        Server { process, urls, stderr, stdout }
    }

    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// `HOST:PORT` of a TCP or UDP server.
    pub(crate) fn address(&self) -> &str {
        self.url().split_once("://").unwrap().1
    }

    /// Ends it gently. It must have printed nothing beyond the lines about its listeners.
    pub(crate) fn end(self) -> String {
        self.end_with(0)
    }

    /// The same of one that exits with another status.
    pub(crate) fn end_with(mut self, status: i32) -> String {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait().code(), Some(status), "{}", self.stderr.text());
        assert_eq!(self.stdout.recv_timeout(PATIENCE).ok(), None);
        let text = self.stderr.to_end();
        assert!(!text.contains("panicked"), "{text}");
        text
    }
}

/// What a command that ran to its end left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs the command to its end, with this standard input.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Output {
    finish(resay(arguments), input)
}

pub(crate) fn finish(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let (mut stdin, input) = (process.0.stdin.take().unwrap(), input.to_vec());
    // A command that ends without reading its input is none of the tests' failures.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(process.0.stdout.take().unwrap());
    let stderr = read_all(process.0.stderr.take().unwrap());
    let code = process.wait().code();
    let [stdout, stderr] =
        [stdout, stderr].map(|bytes| bytes.recv_timeout(PATIENCE).expect("the pipe is closed"));
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Output { code, stdout, stderr }
}

fn read_all(mut source: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// The two ends of a terminal.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let user = File::options().read(true).write(true).open(Path::new(name.to_str().unwrap())).unwrap();
    (File::from(controller), user.into())
}

/// Sends a question to a server whose answers are as long, and reads the answer.
pub(crate) fn ask(stream: &mut (impl Read + Write), question: &[u8]) -> Vec<u8> {
    stream.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Takes its time, where being slow is what a test is about; never to wait for something to happen.
pub(crate) fn pace(time: Duration) {
    std::thread::sleep(time);
}
