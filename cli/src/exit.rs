//! Exit statuses, and which failure has which.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use resay::net::address::Address;
use resay::{Error, SpecError};
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

/// How the command ends. The numbers are an interface: [`crate::help::STATUSES`] tells them to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// The answer was not the expected one.
    Unexpected = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The system, or the other side, refused; or nobody is there.
    Unreachable = 3,
    Timeout = 4,
    /// A reset, or an end before it was due; standard output cannot be written.
    Broken = 5,
    /// A plugin file or a transform cannot be used.
    Plugin = 6,
    /// By SIGINT or SIGTERM, as shells show it.
    Interrupted = 130,
    Terminated = 143,
    /// Whoever read standard output has stopped. The command ends by SIGPIPE, which shells show as this.
    Unread = 141,
}

impl Exit {
    /// Ends the process where this is a signal's end; otherwise the status for `main` to return.
    pub(crate) fn end(self) -> ExitCode {
        let signal = match self {
            Exit::Interrupted => Some(SIGINT),
            Exit::Terminated => Some(SIGTERM),
            Exit::Unread => Some(SIGPIPE),
            _ => None,
        };
        if let Some(signal) = signal {
            // It returns if the system does not let it happen.
            let _ = emulate_default_handler(signal);
        }
        ExitCode::from(self as u8)
    }

    /// The status with that number.
    pub(crate) fn from_number(number: &str) -> Option<Exit> {
        use Exit::{Broken, Done, Plugin, Timeout, Unexpected, Unreachable, Usage};
        let all = [Done, Unexpected, Usage, Unreachable, Timeout, Broken, Plugin];
        all.into_iter().find(|&exit| (exit as u8).to_string() == number)
    }
}

/// A failure, and how it ends the command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
}

/// A socket that cannot be opened.
#[derive(Debug)]
pub(crate) struct Unopened {
    /// Somebody has its address.
    pub(crate) is_in_use: bool,
    pub(crate) address: Address,
    pub(crate) failure: Failure,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: without_numbers(text.into()) }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Tells it on standard error, unless it is the reader's own wish.
    pub(crate) fn report(&self) {
        if self.exit != Exit::Unread {
            complain(&self.text);
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Spec(error) => error.into(),
            error => {
                // A caret below a tab or an escape sequence would point elsewhere.
                let pointer = error
                    .pointer()
                    .filter(|pointer| !pointer.contains(|c: char| c.is_control() && c != '\n'));
                let text = pointer.map_or_else(|| error.to_string(), |pointer| format!("{error}\n{pointer}"));
                Failure::new(exit_of(&error), text)
            }
        }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Failure {
        // A caret below a tab or an escape sequence would point elsewhere; the message has the column.
        let printable = !error.text.contains(char::is_control);
        let text = if printable { format!("{error}\n{}", error.pointer()) } else { error.to_string() };
        Failure::new(Exit::Usage, text)
    }
}

/// The exit status for an error of the library.
pub(crate) fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Plugin { .. } | Error::UnknownTransform { .. } | Error::Transform { .. } => Exit::Plugin,
        Error::Timeout { .. } => Exit::Timeout,
        Error::System { source, .. } => exit_of_system(source),
        _ => Exit::Usage,
    }
}

fn exit_of_system(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::TimedOut => Exit::Timeout,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Exit::Broken,
        // The library's own word, not the system's: the URL is unsuitable.
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => Exit::Usage,
        _ => Exit::Unreachable,
    }
}

/// The text without the numbers of system errors: the words before `(os error 13)` say the same. All errors of the command
/// and all texts of its log pass here; those of the library have none.
pub(crate) fn without_numbers(mut text: String) -> String {
    const OPENING: &str = " (os error ";
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(OPENING)).map(|at| from + at) {
        let behind = at + OPENING.len();
        let rest = text.get(behind..).unwrap_or_default();
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        if digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with(')')) {
            text.replace_range(at..behind + digits + 1, "");
            from = at;
        } else {
            from = behind;
        }
    }
    text
}

/// Says on standard error what is wrong. Nobody may be listening there, and that is no reason to fail.
pub(crate) fn complain(text: impl Display) {
    let text = without_numbers(text.to_string());
    let _ = io::stderr().write_all(format!("resay: {text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_the_status_of_what_happened() {
        let table = [
            (io::ErrorKind::ConnectionRefused, Exit::Unreachable),
            (io::ErrorKind::NotFound, Exit::Unreachable),
            (io::ErrorKind::AddrInUse, Exit::Unreachable),
            (io::ErrorKind::PermissionDenied, Exit::Unreachable),
            (io::ErrorKind::TimedOut, Exit::Timeout),
            (io::ErrorKind::ConnectionReset, Exit::Broken),
            (io::ErrorKind::BrokenPipe, Exit::Broken),
            (io::ErrorKind::InvalidInput, Exit::Usage),
        ];
        for (kind, exit) in table {
            let error = Error::System { what: "try".into(), source: kind.into() };
            assert_eq!(exit_of(&error), exit, "{kind:?}");
        }
    }

    #[test]
    fn system_errors_are_told_in_words() {
        let refused = io::Error::from_raw_os_error(libc::EACCES);
        let failure = Failure::new(Exit::Usage, format!("a: {refused}; b: {refused} (os error x)"));
        assert_eq!(failure.text, "a: Permission denied; b: Permission denied (os error x)");
    }

    #[test]
    fn a_fault_in_a_text_is_pointed_at_where_that_can_be_done() {
        let failure = Failure::from(SpecError::new("chain", "a ||", 3, "why"));
        assert!(failure.text.ends_with("\n  a ||\n     ^"), "{}", failure.text);
        let failure = Failure::from(SpecError::new("chain", "a\t||", 3, "why"));
        assert!(!failure.text.contains('\n'), "{}", failure.text);
    }
}
