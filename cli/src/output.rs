//! Standard output: everything that the command prints there goes through this module, so that output which is lost is
//! never a success.
//!
//! A reader that stops reading (`| head`) ends the command as it ends any other: quietly, by SIGPIPE. Everything else
//! (a full disk, a closed descriptor) is an error with a message.

use std::io::{self, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::start;

/// Prints all of `data`, now.
pub(crate) fn print(data: impl AsRef<[u8]>) -> Result<(), Failure> {
    write(|output| output.write_all(data.as_ref()))
}

/// Prints a help text or a version as clap formats it.
pub(crate) fn print_help(help: &clap::Error) -> Result<(), Failure> {
    // It locks standard output itself.
    write(|_| help.print())
}

/// Standard output that is a terminal, for whoever draws on it and sees each error.
#[cfg(feature = "top")]
pub(crate) fn terminal() -> io::Stdout {
    io::stdout()
}

/// A report as one line of JSON.
pub(crate) fn json(report: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(report).map_err(|error| Failure::new(Exit::Unreachable, format!("report: {error}")))
}

fn write(work: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<(), Failure> {
    let result = if start::has_stdout() {
        let mut output = io::stdout().lock();
        work(&mut output).and_then(|()| output.flush())
    } else {
        Err(io::Error::from_raw_os_error(libc::EBADF))
    };
    result.map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Unread } else { Exit::Broken };
        Failure::new(exit, format!("standard output: {error}"))
    })
}
