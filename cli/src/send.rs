//! `resay send`: one question, its answer, and a status that tells scripts what became of it.

use std::ffi::OsString;
use std::io::{self, Cursor, IsTerminal, Read};
use std::mem;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;
use resay::options::parse_duration;
use resay::{Error, SocketKind};

use crate::deadline::Deadline;
use crate::exit::{Exit, Failure, complain};
use crate::tls::{Peer, TlsArguments};
use crate::{help, output};

/// Send a text, or standard input, and print the answer
///
/// TEXT is sent without a newline; several TEXTs are joined by one blank. Without TEXT, standard input is
/// sent; it may contain any bytes.
///
/// On a stream (tcp, unix) the command sends and receives at the same time, half-closes the connection after
/// the input, and prints everything up to the server's FIN. On a datagram or seqpacket socket the whole input
/// is one message, and the answer is one message.
///
/// The answer is printed without changes; on a terminal, a newline is added if it has none.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// Where to connect, for example tcp://127.0.0.1:8888
    url: String,
    /// The text to send [default: standard input]
    text: Vec<OsString>,
    /// The expected answer; if the answer differs, show the difference and exit with status 1
    #[arg(long, value_name = "TEXT")]
    expect: Option<OsString>,
    /// Time limit from connecting to the end of the answer; 0: none
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    tls: TlsArguments,
}

const EXAMPLES: &str = "\
Examples:
  resay send tcp://127.0.0.1:8888 hello
  resay send tls://localhost:8443 hello --ca /etc/ca.pem
  resay send udp://127.0.0.1:8888 hello --expect HELLO --timeout 1s && echo alive
  resay send unix:/tmp/e.sock < picture.png | cmp - picture.png
  resay send tcp://127.0.0.1:8888 -- --this-begins-with-dashes";

fn long_help() -> String {
    let statuses = "\
Exit status:
  0  there was an answer, and the expected one if --expect says which
  1  the answer was not the expected one
  2  usage; standard input cannot be read; too long for one datagram or record
  3  refused or unreachable
  4  no answer, or not all of it, in time
  5  reset, or the server ended the connection before it had all the input, or
     without a byte of answer to it; standard output cannot be written";
    [EXAMPLES, help::URLS, statuses].join("\n\n")
}

/// What one receive may bring. Unix records are bounded by the socket buffers, far below; the memory is only
/// used as far as something is received.
const RECEIVE_BYTES: usize = 4 << 20;
/// What is read of the input before it is sent on.
const INPUT_BYTES: usize = 64 << 10;
/// How long the sender may take to say that it is done, when the answer has ended.
const SENDER_GRACE: Duration = Duration::from_millis(200);

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { url, text, expect, timeout, tls } = arguments;
    let tls = tls.of(&url)?;
    let mut answer = Answer::new(expect.map(OsStringExt::into_vec));
    let input: Box<dyn Read + Send> = match text.is_empty() {
        true => Box::new(io::stdin()),
        false => Box::new(Cursor::new(text.join(" ".as_ref()).into_vec())),
    };
    let connect = |deadline: &Deadline| {
        Peer::open(&url, tls.as_ref(), deadline.left()?).map_err(|e| deadline.failure(e))
    };
    // A URL that is wrong is told before standard input is read.
    let deadline = Deadline::after(timeout, &url);
    let client = connect(&deadline)?;
    match client.kind() {
        SocketKind::Tcp | SocketKind::UnixStream => stream(client, input, &deadline, &mut answer)?,
        _ => {
            let mut message = Vec::new();
            { input }.read_to_end(&mut message).map_err(|error| input_failure(&error))?;
            // Until here the time was the user's.
            let deadline = Deadline::after(timeout, &url);
            record(&client, &message, &deadline, &mut answer)?;
        }
    }
    answer.finish()
}

/// A message, and its answer.
fn record(client: &Peer, message: &[u8], deadline: &Deadline, answer: &mut Answer) -> Result<(), Failure> {
    client.send(message, deadline.left()?).map_err(|error| send_failure(deadline, error, message.len()))?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut receive = |answer: &mut Answer| {
        let count = client.recv(&mut buffer, deadline.left()?).map_err(|error| deadline.failure(error))?;
        answer.take(buffer.get(..count).unwrap_or_default())?;
        Ok::<_, Failure>(count)
    };
    if client.kind().is_datagram() {
        return receive(answer).map(drop);
    }
    client.shutdown()?;
    while receive(answer)? > 0 && !answer.is_unwanted() {}
    answer.check_some(message.len() as u64)
}

fn send_failure(deadline: &Deadline, error: Error, bytes: usize) -> Failure {
    match error.os_error() {
        Some(libc::EMSGSIZE) => {
            Failure::new(Exit::Usage, format!("{bytes} bytes are too long for one message: {error}"))
        }
        _ => deadline.failure(error),
    }
}

/// Sends and receives at once: a server that answers while it reads would else wait for us, and we for it.
fn stream(
    client: Peer,
    input: Box<dyn Read + Send>,
    deadline: &Deadline,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let client = Arc::new(client);
    let (report, sender) = mpsc::channel();
    let (theirs, their_deadline) = (Arc::clone(&client), deadline.clone());
    // Not joined: it may be waiting for standard input when the server is already gone.
    let spawned = thread::Builder::new().name("send".to_owned()).spawn(move || {
        let sent = pump(input, &theirs, &their_deadline);
        // Also after a failure, so that the server ends its side and the receiver looks here.
        let _ = theirs.shutdown();
        let _ = report.send(sent);
    });
    spawned.map_err(|error| Failure::new(Exit::Unreachable, format!("start a thread: {error}")))?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let count = match client.recv(&mut buffer, deadline.left()?) {
            Ok(count) => count,
            Err(error) => {
                // What went wrong with the input says more than the reset that came of it.
                if let Ok(Err(failure)) = sender.try_recv() {
                    return Err(failure);
                }
                return Err(deadline.failure(error));
            }
        };
        if count == 0 {
            return answer.check_some(bytes_sent(&sender)?);
        }
        answer.take(buffer.get(..count).unwrap_or_default())?;
        if answer.is_unwanted() {
            return Ok(());
        }
    }
}

/// Sends the input to its end and says how long it was.
fn pump(mut input: Box<dyn Read + Send>, client: &Peer, deadline: &Deadline) -> Result<u64, Failure> {
    let mut buffer = vec![0; INPUT_BYTES];
    let mut sent = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(sent),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(input_failure(&error)),
        };
        let data = buffer.get(..count).unwrap_or_default();
        client.send(data, deadline.left()?).map_err(|error| deadline.failure(error))?;
        sent += count as u64;
    }
}

/// How much was sent, now that the server has ended its side.
fn bytes_sent(sender: &Receiver<Result<u64, Failure>>) -> Result<u64, Failure> {
    match sender.recv_timeout(SENDER_GRACE) {
        Ok(sent) => sent,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Failure::new(Exit::Broken, "the server ended the connection before the input had ended"))
        }
    }
}

fn input_failure(error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("standard input: {error}"))
}

/// What has come, on its way to standard output.
struct Answer {
    expected: Option<Vec<u8>>,
    /// What came, kept only as far as it is to be compared or shown.
    got: Vec<u8>,
    bytes: u64,
    last: Option<u8>,
    output: Result<(), Failure>,
}

impl Answer {
    fn new(expected: Option<Vec<u8>>) -> Answer {
        Answer { expected, got: Vec::new(), bytes: 0, last: None, output: Ok(()) }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.bytes += data.len() as u64;
        self.last = data.last().copied().or(self.last);
        if let Some(expected) = &self.expected {
            let room = (expected.len() + SHOWN_BYTES).saturating_sub(self.got.len());
            self.got.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        }
        self.print(data);
        match &self.output {
            // Without a reader there may still be something to compare.
            Err(failure) if failure.exit != Exit::Unread => mem::replace(&mut self.output, Ok(())),
            _ => Ok(()),
        }
    }

    fn print(&mut self, data: &[u8]) {
        if self.output.is_ok() {
            self.output = output::print(data);
        }
    }

    /// Nobody reads it any more and nothing is to be compared.
    fn is_unwanted(&self) -> bool {
        self.output.is_err() && self.expected.is_none()
    }

    /// After a clean end: something was sent, so something must have come, unless nothing is expected.
    fn check_some(&self, sent: u64) -> Result<(), Failure> {
        let nothing_expected = self.expected.as_ref().is_some_and(Vec::is_empty);
        if sent > 0 && self.bytes == 0 && !nothing_expected {
            return Err(Failure::new(Exit::Broken, "the server ended the connection without an answer"));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Exit, Failure> {
        if self.last.is_some_and(|last| last != b'\n') && io::stdout().is_terminal() {
            self.print(b"\n");
        }
        match &self.expected {
            Some(expected) if self.bytes != expected.len() as u64 || self.got != *expected => {
                complain(difference(expected, &self.got, self.bytes));
                Ok(Exit::Unexpected)
            }
            _ => self.output.map(|()| Exit::Done),
        }
    }
}

/// What of a long text is shown around the place where it differs, on each side.
const SHOWN_BYTES: usize = 32;

fn difference(expected: &[u8], got: &[u8], got_bytes: u64) -> String {
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(SHOWN_BYTES);
    let before = expected.get(start..same).unwrap_or_default().escape_ascii().to_string();
    let column = before.len() + if start > 0 { "…".chars().count() } else { 0 };
    format!(
        "the answer is not the expected one, from byte {} on\n  expected {} bytes: \"{}\"\n  \
         got {:>width$} bytes: \"{}\"\n{:>place$}",
        same + 1,
        expected.len(),
        shown(expected, start, same, expected.len() as u64),
        got_bytes,
        shown(got, start, same, got_bytes),
        '^',
        // `got` is as wide as `expected` with its number, so that the texts begin in one column.
        width = expected.len().to_string().len() + "expected".len() - "got".len(),
        place = "  expected  bytes: \"".len() + expected.len().to_string().len() + column + 1,
    )
}

fn shown(text: &[u8], start: usize, same: usize, bytes: u64) -> String {
    let end = (same + SHOWN_BYTES).min(text.len());
    let head = if start > 0 { "…" } else { "" };
    let tail = if (end as u64) < bytes { "…" } else { "" };
    format!("{head}{}{tail}", text.get(start..end).unwrap_or_default().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_below_the_first_byte_that_differs() {
        let table: [(&[u8], &[u8]); 6] = [
            (b"HELLO", b"HELlO"),
            (b"HELLO", b"HELLO!"),
            (b"HELLO!", b"HELLO"),
            (b"a\nb\xffc", b"a\nb\xffd"),
            (&[b'x'; 200], &[b'x'; 1000]),
            (b"", b"x"),
        ];
        for (expected, got) in table {
            let text = difference(expected, got, got.len() as u64);
            let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
            let [_, wanted, came, caret] = lines.as_slice() else { panic!("{text}") };
            let (quote, column) = (wanted.iter().position(|&letter| letter == '"'), caret.len() - 1);
            assert_eq!(quote, came.iter().position(|&letter| letter == '"'), "{text}");
            let start = quote.unwrap() + 1;
            assert_eq!(wanted.get(start..column), came.get(start..column), "{text}");
            assert_ne!(wanted.get(column), came.get(column), "{text}");
        }
    }
}
