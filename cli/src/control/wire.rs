//! Writing to a client, however slowly it reads.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::exit::{Exit, Failure};

/// For one answer, or one batch of lines.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Writes all of it, or fails.
pub(super) fn write_all(mut client: &UnixStream, mut rest: &[u8]) -> Result<(), Failure> {
    let deadline = Deadline::after(ANSWER_LIMIT, "control client");
    let failed = |error: io::Error| Failure::new(Exit::Broken, error.to_string());
    while !rest.is_empty() {
        client.set_write_timeout(deadline.left()?).map_err(failed)?;
        match client.write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}
