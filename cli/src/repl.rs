//! `resay repl`: line by line, question and answer, at a terminal or through pipes.
//!
//! `Talk` holds the connection and knows when an answer is over; the two loops, with an editor and without,
//! only bring lines and show answers. `typed` is what a line at a terminal means, `shown` how answers look.

mod shown;
mod typed;

use std::fs::DirBuilder;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use resay::options::parse_duration;
use resay::{Error, SocketKind};
use resay_plugin::environment;
use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, DefaultEditor, Event, EventContext, EventHandler, KeyEvent,
    Movement, RepeatCount,
};

use crate::exit::{Exit, Failure, complain, exit_of};
use crate::tls::{Peer, Tls, TlsArguments};
use crate::{help, output};
use shown::{hexadecimal, visible};
use typed::Typed;

/// Talk to a server line by line
///
/// Sends each line without its newline and prints the answer. An empty line is not sent.
///
/// A datagram or a record is one answer. On a stream the answer begins within --timeout and ends when nothing
/// arrives for 50 ms. A server with frame=lines needs --newline; then the answer ends with its newline.
///
/// At a terminal a backslash begins an escape: `\xNN` is the byte with this hexadecimal number, `\n`, `\r`, `\t` and
/// `\0` are newline, carriage return, tab and the byte 0, `\\` is a backslash. A line that
/// begins with a colon is a command to `resay repl` itself: `:hex on` shows answers in hexadecimal, `:hex off` as text,
/// `:help` lists the commands. `\:` sends a line that begins with a colon. Input from a pipe is data without escapes and
/// commands.
///
/// At a terminal lines can be edited, and the history is in $XDG_STATE_HOME/resay/history. Ctrl-C clears the line;
/// Ctrl-D, or Ctrl-C on an empty line, ends the command. Control characters in answers are escaped. If standard
/// input or output is not a terminal, none of this applies, and the exit status is that of the first line without an
/// answer.
///
/// If the server is gone, the next line connects again and reports it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// Where to connect, for example tcp://127.0.0.1:8888
    url: String,
    /// Send a newline after each line
    #[arg(short, long)]
    newline: bool,
    /// Show answers in hexadecimal, with text beside it
    #[arg(long)]
    hex: bool,
    /// Time limit for an answer, and for a server to come back; 0: none
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    tls: TlsArguments,
}

const EXAMPLES: &str = "\
Examples:
  resay repl tcp://127.0.0.1:8888
  resay repl unix:/tmp/e.sock --newline          # a server with frame=lines
  resay repl tcp://127.0.0.1:8888 --hex          # and type \\x00\\xff
  printf 'one\\ntwo\\n' | resay repl udp://127.0.0.1:8888";

fn long_help() -> String {
    [EXAMPLES, help::URLS, help::STATUSES].join("\n\n")
}

/// On a stream, an answer ends when nothing arrives for this time.
const QUIET: Duration = Duration::from_millis(50);
/// How long to look for answers that came too late for their own line.
const GLANCE: Duration = Duration::from_millis(1);
/// Between two attempts to reach a server that has gone.
const RETRY: Duration = Duration::from_millis(100);
/// More of an answer is shown with the next line.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const RECEIVE_BYTES: usize = 1 << 20;
const HISTORY_LINES: usize = 1000;

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let talk = Talk::open(arguments)?;
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        edited(talk, arguments)
    } else {
        piped(talk, arguments.hex)
    }
}

/// Why a line has no answer.
enum Trouble {
    /// It was not sent.
    Unreachable(Error),
    /// It was sent, and the time passed.
    Silence,
    /// It was sent, and the server ended the connection.
    Ended,
    /// It was sent, and then this.
    Failed(Error),
}

impl Trouble {
    fn exit(&self) -> Exit {
        match self {
            Trouble::Unreachable(error) | Trouble::Failed(error) => exit_of(error),
            Trouble::Silence => Exit::Timeout,
            Trouble::Ended => Exit::Broken,
        }
    }
}

/// The connection, as far as there is one.
struct Talk {
    url: String,
    tls: Option<Tls>,
    newline: bool,
    timeout: Option<Duration>,
    client: Option<Peer>,
    /// Some line was not answered in time: its answer may come before the next one's.
    late: bool,
    buffer: Vec<u8>,
}

impl Talk {
    fn open(arguments: &Arguments) -> Result<Talk, Failure> {
        let timeout = help::limit(arguments.timeout);
        let tls = arguments.tls.of(&arguments.url)?;
        let client = Peer::open(&arguments.url, tls.as_ref(), timeout)?;
        Ok(Talk {
            url: arguments.url.clone(),
            tls,
            newline: arguments.newline,
            timeout,
            client: Some(client),
            late: false,
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// Sends a line and gives `show` what comes back: the answer, and before it any that came late.
    fn exchange(&mut self, line: &[u8], show: &mut dyn FnMut(&[u8])) -> Result<(), Trouble> {
        let mut message = line.to_vec();
        if self.newline {
            message.push(b'\n');
        }
        if self.late {
            self.show_late(show);
        }
        if self.client.as_ref().is_some_and(Peer::is_gone) {
            complain(format_args!("{} has ended the connection", self.url));
            self.client = None;
        }
        let timeout = self.timeout;
        match self.connected()?.send(&message, timeout) {
            Ok(()) => {}
            Err(error @ Error::Timeout { .. }) => {
                // Part of it may have been taken: whatever came next would be understood wrongly.
                self.client = None;
                return Err(Trouble::Failed(error));
            }
            Err(error) => {
                // Nobody has got it, so it is sent once only.
                complain(error);
                self.client = None;
                self.connected()?.send(&message, timeout).map_err(Trouble::Unreachable)?;
            }
        }
        let mut answer = Vec::new();
        let result = self.receive(&mut answer);
        if !answer.is_empty() || result.is_ok() {
            show(&answer);
        }
        result
    }

    /// The connection; a new one where there is none, with patience for a server that is being restarted.
    fn connected(&mut self) -> Result<&Peer, Trouble> {
        if let Some(client) = self.client.take() {
            return Ok(self.client.insert(client));
        }
        let since = Instant::now();
        loop {
            match Peer::open(&self.url, self.tls.as_ref(), self.timeout) {
                Ok(client) => {
                    if client.kind() != SocketKind::Udp {
                        complain(format_args!("connected to {} again", self.url));
                    }
                    self.late = false;
                    return Ok(self.client.insert(client));
                }
                Err(error) if self.timeout.is_some_and(|timeout| since.elapsed() >= timeout) => {
                    return Err(Trouble::Unreachable(error));
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    /// Receives one answer, as far as it can be known to be one.
    fn receive(&mut self, answer: &mut Vec<u8>) -> Result<(), Trouble> {
        let Some(client) = &self.client else { return Ok(()) };
        let is_stream = matches!(client.kind(), SocketKind::Tcp | SocketKind::UnixStream);
        let mut wait = self.timeout;
        loop {
            match client.recv(&mut self.buffer, wait) {
                Ok(0) if client.kind().is_connected() => {
                    self.client = None;
                    // What came is an answer; the next line connects again.
                    return if answer.is_empty() { Err(Trouble::Ended) } else { Ok(()) };
                }
                Ok(count) => answer.extend_from_slice(self.buffer.get(..count).unwrap_or_default()),
                Err(Error::Timeout { .. }) if !answer.is_empty() => return Ok(()),
                Err(Error::Timeout { .. }) => {
                    self.late = true;
                    return Err(Trouble::Silence);
                }
                Err(error) => {
                    self.client = None;
                    return Err(Trouble::Failed(error));
                }
            }
            let complete = self.newline && answer.ends_with(b"\n");
            if !is_stream || complete || answer.len() >= ANSWER_BYTES_MAX {
                return Ok(());
            }
            wait = Some(QUIET);
        }
    }

    fn show_late(&mut self, show: &mut dyn FnMut(&[u8])) {
        let Some(client) = &self.client else { return };
        // The end of the connection, or what broke it, is for the exchange to find.
        while let Ok(count @ 1..) = client.recv(&mut self.buffer, Some(GLANCE)) {
            complain("this answer came late:");
            show(self.buffer.get(..count).unwrap_or_default());
        }
    }

    /// Tells what became of a line.
    fn report(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Unreachable(error) => complain(format_args!("{error}; the line was not sent")),
            Trouble::Failed(error) => complain(format_args!("{error}; the line has no answer")),
            Trouble::Ended => {
                complain(format_args!("{} ended the connection without an answer to the line", self.url));
            }
            Trouble::Silence => {
                let hint = if self.newline {
                    ""
                } else {
                    " (does the server wait for a newline? --newline sends one)"
                };
                complain(format_args!("no answer within {:?}{hint}", self.timeout.unwrap_or_default()));
            }
        }
    }
}

/// Without a terminal: lines in, answers out.
fn piped(mut talk: Talk, hex: bool) -> Result<Exit, Failure> {
    let mut input = io::stdin().lock();
    let mut exit = Exit::Done;
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = input
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::new(Exit::Usage, format!("standard input: {error}")))?;
        if count == 0 {
            return Ok(exit);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.is_empty() {
            continue;
        }
        let mut written = Ok(());
        let result = talk.exchange(text, &mut |answer| {
            let end: &[u8] = if answer.ends_with(b"\n") { b"" } else { b"\n" };
            if written.is_ok() && hex {
                written = output::print(hexadecimal(answer) + "\n");
            } else if written.is_ok() {
                written = output::print([answer, end].concat());
            }
        });
        written?;
        if let Err(trouble) = result {
            talk.report(&trouble);
            if exit == Exit::Done {
                exit = trouble.exit();
            }
            if let Trouble::Unreachable(_) = trouble {
                return Ok(exit);
            }
        }
    }
}

/// At a terminal.
fn edited(mut talk: Talk, arguments: &Arguments) -> Result<Exit, Failure> {
    let failed = |error: ReadlineError| Failure::new(Exit::Broken, format!("the terminal: {error}"));
    let config = Config::builder().max_history_size(HISTORY_LINES).map_err(failed)?.build();
    let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(ClearOrLeave)));
    let history = history_file();
    if let Some(file) = &history {
        // There is none before the first time.
        let _ = editor.load_history(file);
    }
    let prompt = format!("{}> ", arguments.url);
    let mut hex = arguments.hex;
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(Exit::Done),
            Err(error) => return Err(failed(error)),
        };
        if line.is_empty() {
            continue;
        }
        let is_new = editor.add_history_entry(&line).unwrap_or(false);
        if let Some(file) = &history
            && is_new
        {
            // A history that cannot be kept is no reason not to talk.
            let _ = editor.append_history(file);
        }
        let data = match Typed::read(&line) {
            Ok(Typed::Data(data)) => data,
            Ok(Typed::Hex(on)) => {
                hex = on;
                continue;
            }
            Ok(Typed::Help) => {
                output::print(format!("{}\n", typed::HELP))?;
                continue;
            }
            Err(why) => {
                complain(format_args!("{why}; the line was not sent"));
                continue;
            }
        };
        let mut written = Ok(());
        let result = talk.exchange(&data, &mut |answer| {
            if written.is_ok() {
                written = output::print(if hex { hexadecimal(answer) } else { visible(answer) } + "\n");
            }
        });
        written?;
        if let Err(trouble) = result {
            talk.report(&trouble);
        }
    }
}

/// Ctrl-C: leaves, or clears what has been typed.
struct ClearOrLeave;

impl ConditionalEventHandler for ClearOrLeave {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}

/// The history's file, in a directory that only the user can read.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| environment::variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("resay");
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    Some(directory.join("history"))
}
