//! What `serve` writes to standard error, without ever making a worker wait for whoever reads it.
//!
//! ```text
//! workers --say--> queue, bounded --> one thread --write--> standard error
//!                    | full
//!                    +-> counted, and told once there is room again
//! ```

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use resay::{Event, EventCause, EventKind, LogLevel};
use serde::Serialize;

use crate::exit::without_numbers;
use crate::lock::lock;

/// What may wait to be written.
const QUEUE_BYTES_MAX: usize = 512 * 1024;
/// A longer text of one event is cut.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// How long to wait where standard error does not block and takes nothing now.
const RETRY: Duration = Duration::from_millis(10);

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: time, level, what happened
    Text,
    /// For programs: one object a line
    Json,
}

impl Format {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

/// The log. Clones write to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    format: Format,
    quiet: bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that found no room, or that could not be written, of which the log has not told yet.
    lost: u64,
    /// Those of which it has.
    lost_before: u64,
    /// A batch is being written.
    writing: bool,
}

impl Log {
    /// Starts the thread that writes. Of what the command itself says, `quiet` leaves only errors.
    pub(crate) fn start(format: Format, quiet: bool) -> io::Result<Log> {
        let log = Log { format, quiet, shared: Arc::default() };
        let writer = log.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_for_ever())?;
        Ok(log)
    }

    /// Takes an event in. Never waits for the reader.
    pub(crate) fn event(&self, event: &Event<'_>) {
        let line = render(self.format, SystemTime::now(), event);
        let mut queue = lock(&self.shared.queue);
        if queue.bytes + line.len() > QUEUE_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Says something of the command's own.
    pub(crate) fn emit(&self, level: LogLevel, listener: &str, text: impl fmt::Display) {
        if !self.quiet || level == LogLevel::Error {
            self.event(&own(level, listener, &without_numbers(text.to_string())));
        }
    }

    /// Waits until everything is written, at most for `within`.
    pub(crate) fn flush(&self, within: Duration) {
        let unwritten = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        // If the time has passed, what is left is lost: nobody reads.
        drop(self.shared.changed.wait_timeout_while(lock(&self.shared.queue), within, unwritten));
    }

    /// Lines that found no room, or that could not be written, so far.
    pub(crate) fn lost(&self) -> u64 {
        let queue = lock(&self.shared.queue);
        queue.lost + queue.lost_before
    }

    fn write_for_ever(&self) {
        let mut batch = String::new();
        let mut queue = lock(&self.shared.queue);
        loop {
            queue.writing = false;
            self.shared.changed.notify_all();
            while queue.lines.is_empty() {
                queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.writing = true;
            queue.bytes = 0;
            let lines = std::mem::take(&mut queue.lines);
            // Lines are lost only after others have filled the queue, so these come first.
            let lost = std::mem::take(&mut queue.lost);
            queue.lost_before += lost;
            drop(queue);
            batch.clear();
            lines.iter().for_each(|line| batch += line);
            if lost > 0 {
                let text = format_args!("{lost} lines dropped: standard error takes no more");
                batch += &render(self.format, SystemTime::now(), &own(LogLevel::Warn, "", &text));
            }
            let written = write(batch.as_bytes());
            queue = lock(&self.shared.queue);
            if written.is_err() {
                queue.lost_before -= lost;
                queue.lost += lost + lines.len() as u64;
            }
        }
    }
}

fn own<'a>(level: LogLevel, listener: &'a str, text: &'a dyn fmt::Display) -> Event<'a> {
    Event {
        level,
        kind: EventKind::Engine,
        listener,
        listener_id: 0,
        connection: 0,
        peer: None,
        cause: None,
        text,
    }
}

/// Writes all of it, also where standard error was made non-blocking by whoever shares it.
fn write(mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match io::stderr().write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An event as a line of JSON; what does not concern it is null.
#[derive(Serialize)]
struct Fields<'a> {
    ts: String,
    level: &'static str,
    kind: &'static str,
    listener: Option<&'a str>,
    connection: Option<u64>,
    peer: Option<String>,
    cause: Option<&'static str>,
    errno: Option<i32>,
    text: String,
}

fn render(format: Format, now: SystemTime, event: &Event<'_>) -> String {
    let ts = humantime::format_rfc3339_millis(now).to_string();
    let mut line = match format {
        Format::Text => {
            let mut line = format!("{ts} {:5} ", event.level.name());
            escape_into(&mut line, &cut(event.to_string()));
            line
        }
        Format::Json => {
            let fields = Fields {
                ts,
                level: event.level.name(),
                kind: event.kind.name(),
                listener: (!event.listener.is_empty()).then_some(event.listener),
                connection: (event.connection != 0).then_some(event.connection),
                peer: event.peer.map(ToString::to_string),
                cause: event.cause.map(EventCause::name),
                errno: match event.cause {
                    Some(EventCause::System(errno)) => Some(errno),
                    _ => None,
                },
                text: cut(event.text.to_string()),
            };
            // Strings and numbers only: this does not fail. JSON leaves DEL and what lies above it as it is.
            let mut line = String::new();
            escape_into(&mut line, &serde_json::to_string(&fields).unwrap_or_default());
            line
        }
    };
    line.push('\n');
    line
}

/// Appends `text` with its control characters written as `\u00NN`, which JSON understands too.
pub(crate) fn escape_into(line: &mut String, text: &str) {
    for letter in text.chars() {
        if letter.is_control() {
            // Writing to a String does not fail.
            let _ = write!(line, "\\u{:04x}", u32::from(letter));
        } else {
            line.push(letter);
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text += "…";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, text: &str) -> String {
        let event = Event {
            level: LogLevel::Warn,
            kind: EventKind::Dropped,
            listener: "tcp://127.0.0.1:1",
            listener_id: 1,
            connection: 7,
            peer: Some(&resay::Peer::Unnamed),
            cause: Some(EventCause::Dropped(resay::DropReason::TooLong)),
            text: &text,
        };
        render(format, SystemTime::UNIX_EPOCH, &event)
    }

    #[test]
    fn a_line_stays_one_line_whatever_a_transform_says() {
        let text = "a\nb\x1b[2J\u{9b}\"\\";
        assert_eq!(
            line(Format::Text, text),
            "1970-01-01T00:00:00.000Z warn  tcp://127.0.0.1:1: connection 7 from unix:: \
             a\\u000ab\\u001b[2J\\u009b\"\\\n"
        );
        let json = line(Format::Json, text);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        assert!(!json.trim_end().contains(char::is_control), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["text"], text);
        assert_eq!(value["connection"], 7);
        assert_eq!(value["kind"], "dropped");
        assert_eq!(value["level"], "warn");
        assert_eq!((&value["cause"], &value["errno"]), (&"too_long".into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = cut("é".repeat(TEXT_BYTES_MAX));
        assert!(text.len() <= TEXT_BYTES_MAX + "…".len());
    }
}
