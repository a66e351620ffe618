//! The sockets that a service manager passes: sd_listen_fds(3), without its library.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use resay_plugin::environment;

use crate::error::{Error, Result};
use crate::sys;

/// The first of their numbers (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// What the manager calls those that have no name.
const UNNAMED: &str = "unknown";

/// The variables of the environment that speak of them.
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// What the environment said when it was first asked.
#[derive(Debug)]
struct Environment([Option<OsString>; 3]);

impl Environment {
    fn read() -> &'static Environment {
        static READ: OnceLock<Environment> = OnceLock::new();
        READ.get_or_init(|| Environment(VARIABLES.map(environment::variable)))
    }

    fn texts(&self) -> [Option<&str>; 3] {
        // What is not UTF-8 is no number and no name.
        self.0.each_ref().map(|value| value.as_ref().map(|value| value.to_str().unwrap_or("\u{fffd}")))
    }
}

/// Reads what the environment says of passed sockets, now and for good, and names the variables: whoever knows that no other
/// thread reads the environment can then remove them, so that no program that is started takes them for its own.
pub fn read_passed_sockets() -> [&'static str; 3] {
    Environment::read();
    VARIABLES
}

/// The descriptors that were passed under this name, or all of them. Programs that are started inherit none of them.
pub(super) fn passed_by_systemd(name: Option<&str>) -> Result<Vec<RawFd>> {
    let found = passed(Environment::read().texts(), std::process::id(), sys::claim_passed);
    let found = found.map_err(Error::system("read the sockets passed by the service manager"))?;
    let wanted = found.iter().filter(|(_, passed)| name.is_none_or(|name| name == *passed));
    let wanted: Vec<RawFd> = wanted.map(|(fd, _)| *fd).collect();
    match name {
        Some(name) if wanted.is_empty() => {
            let names: Vec<_> = found.iter().map(|(_, passed)| *passed).collect();
            let why = format!("none is called {name:?}; there are {}", names.join(", "));
            Err(wrong("read the sockets passed by the service manager")(why))
        }
        _ => Ok(wanted),
    }
}

fn wrong(what: &'static str) -> impl FnOnce(String) -> Error {
    move |why| Error::system(what)(io::Error::new(io::ErrorKind::NotFound, why))
}

/// All that were passed to process `pid`, and their names. `claim` hears of each, and fails where it is not open.
fn passed(
    [listen_pid, listen_fds, names]: [Option<&str>; 3],
    pid: u32,
    claim: impl Fn(RawFd) -> io::Result<()>,
) -> io::Result<Vec<(RawFd, &str)>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::NotFound, why);
    let Some(listen_pid) = listen_pid else {
        return Err(wrong("LISTEN_PID is not set: this process was passed none".into()));
    };
    if listen_pid.parse() != Ok(pid) {
        return Err(wrong(format!("LISTEN_PID={listen_pid} does not name this process, {pid}")));
    }
    let text = listen_fds.unwrap_or_default();
    let count = match text.parse() {
        Ok(0) => return Err(wrong("LISTEN_FDS=0: there are none".into())),
        Ok(count @ 1..) if count <= RawFd::MAX - FIRST => count,
        _ => return Err(wrong(format!("LISTEN_FDS={text} is no number of descriptors"))),
    };
    let mut found = Vec::new();
    let mut names = names.map(|names| names.split(':'));
    for fd in FIRST..FIRST + count {
        let name = match &mut names {
            None => UNNAMED,
            Some(names) => names.next().ok_or_else(|| {
                wrong(format!("LISTEN_FDNAMES has {} names, LISTEN_FDS={count}", fd - FIRST))
            })?,
        };
        claim(fd).map_err(|error| {
            io::Error::new(error.kind(), format!("LISTEN_FDS={count}, but descriptor {fd} is not open"))
        })?;
        found.push((fd, name));
    }
    match names.map_or(0, Iterator::count) {
        0 => Ok(found),
        more => Err(wrong(format!("LISTEN_FDNAMES has {more} names more than LISTEN_FDS={count}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pid: &str, fds: &str, names: Option<&str>) -> Result<Vec<(RawFd, String)>, String> {
        let open = |fd: RawFd| if fd < 6 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) };
        let texts = [pid, fds].map(|text| (text != "unset").then_some(text));
        match passed([texts[0], texts[1], names], 42, open) {
            Ok(found) => Ok(found.into_iter().map(|(fd, name)| (fd, name.to_owned())).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As sd_listen_fds_with_names(3) says.
    #[test]
    fn passed_sockets_have_their_names_or_none() {
        let unnamed = |fds: [RawFd; 3]| fds.map(|fd| (fd, "unknown".to_owned())).to_vec();
        assert_eq!(asked("42", "3", None), Ok(unnamed([3, 4, 5])));
        let named = [(3, "one".to_owned()), (4, String::new())].to_vec();
        assert_eq!(asked("42", "2", Some("one:")), Ok(named));
        assert_eq!(asked("42", "1", Some("")), Ok([(3, String::new())].to_vec()));
    }

    #[test]
    fn a_bad_environment_is_an_error_at_once() {
        for (pid, fds, names, expected) in [
            ("unset", "1", None, "LISTEN_PID is not set"),
            ("41", "1", None, "LISTEN_PID=41 does not name"),
            ("", "1", None, "does not name"),
            ("42", "unset", None, "is no number"),
            ("42", "0", None, "there are none"),
            ("42", "-1", None, "is no number"),
            ("42", "1x", None, "is no number"),
            ("42", "2147483647", None, "is no number"),
            ("42", "2147483645", None, "is no number"),
            ("42", "99999999999", None, "is no number"),
            ("42", "2147483644", None, "descriptor 6 is not open"),
            ("42", "4", None, "descriptor 6 is not open"),
            ("42", "2", Some("one"), "has 1 names"),
            ("42", "2", Some("one:two:three"), "1 names more"),
        ] {
            let found = asked(pid, fds, names);
            let text = found.as_ref().err().map(String::as_str).unwrap_or_default();
            assert!(text.contains(expected), "{pid} {fds} {names:?}: {found:?}");
        }
    }
}
