//! The other side of a control socket: requests, and what comes back.

use std::path::Path;
use std::time::Duration;

use resay::Client;
use resay::net::address::{Address, UnixKind, UnixName};
use resay::options;
use resay::transform::spec::{ChainSpec, Target};
use serde::de::DeserializeOwned;

use super::text::printable;
use crate::control::report::{Ended, Listener};
use crate::deadline::Deadline;
use crate::exit::{Exit, Failure, complain};
use crate::{help, output};

/// A line of what is told as it happens is not longer than this.
const LINE_BYTES_MAX: usize = 4 << 20;
const NO_CONTROL_SOCKET: &str = "this is no control socket of resay";

/// The other side of the control socket.
pub(crate) struct Server<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) timeout: Duration,
}

impl Server<'_> {
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: &str) -> Result<T, Failure> {
        self.ask_within(request, self.timeout, complain)
    }

    pub(super) fn drain(&self, within: Duration) -> Result<Ended, Failure> {
        let limit = help::limit(self.timeout).map_or(Duration::ZERO, |timeout| within + timeout);
        self.ask_within(&format!("drain {}", options::duration_text(within)), limit, complain)
    }

    /// The number of one listener that is named in some way.
    pub(super) fn number(&self, name: &str) -> Result<u64, Failure> {
        if name == "all" {
            let text =
                "an option is of one listener, not of all: name a URL, a name or a number of `listeners`";
            return Err(Failure::new(Exit::Usage, text));
        }
        match name.parse() {
            Ok(number) => Ok(number),
            Err(_) => number_of(name, &self.ask::<Vec<Listener>>("listeners")?),
        }
    }

    /// The listeners that are meant, after the swap if there is one.
    pub(super) fn chain(&self, name: &str, spec: Option<&str>) -> Result<Vec<Listener>, Failure> {
        let listeners = || self.ask::<Vec<Listener>>("listeners");
        let number = match (name, name.parse()) {
            ("all", _) => 0,
            (_, Ok(number)) => number,
            _ => number_of(name, &listeners()?)?,
        };
        let mut found = match spec {
            Some(spec) => self.ask(&format!("chain {number} {}", sendable(spec)?))?,
            None => listeners()?,
        };
        if number != 0 {
            found.retain(|listener| listener.id == number);
            if found.is_empty() {
                return Err(Failure::new(Exit::Usage, format!("unknown or closed listener: {name}")));
            }
        }
        Ok(found)
    }

    fn connect(&self, deadline: &Deadline) -> Result<Client, Failure> {
        let name = UnixName::Path(self.socket.to_owned());
        let url = Address::Unix { kind: UnixKind::Stream, name }.to_string();
        Client::open(&url, deadline.left()?).map_err(|error| deadline.failure(error))
    }

    /// Prints lines as they come, until the server ends. How many there were, but for those that tell of lost ones.
    pub(super) fn stream(&self, request: &str) -> Result<u64, Failure> {
        let deadline = Deadline::after(self.timeout, &self.socket.display().to_string());
        let client = self.connect(&deadline)?;
        let sent = client.send(format!("{request}\n").as_bytes(), deadline.left()?);
        let (mut buffer, mut unread, mut is_accepted, mut count) = (vec![0; 64 << 10], Vec::new(), false, 0);
        loop {
            let left = if is_accepted { None } else { deadline.left()? };
            match client.recv(&mut buffer, left) {
                Ok(0) => break,
                Ok(count) => unread.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if is_accepted => return Err(error.into()),
                Err(error) if error.os_error() == Some(libc::ECONNRESET) && !unread.is_empty() => break,
                Err(error) => return Err(deadline.failure(error)),
            }
            if !is_accepted && unread.starts_with(b"ok\n") {
                is_accepted = true;
                unread.drain(..3);
            }
            let whole = unread.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if is_accepted && whole > 0 {
                let lines: Vec<u8> = unread.drain(..whole).collect();
                let text = String::from_utf8_lossy(&lines);
                count += text.lines().filter(|line| !line.starts_with("{\"lost\":")).count() as u64;
                output::print(text.lines().map(|line| printable(line) + "\n").collect::<String>())?;
            } else if unread.len() > LINE_BYTES_MAX || (!is_accepted && !may_be_answer(&unread)) {
                return Err(self.broken(NO_CONTROL_SOCKET));
            }
        }
        if is_accepted {
            return Ok(count);
        }
        if unread.is_empty() {
            sent.map_err(|error| deadline.failure(error))?;
        }
        // It can only be an error.
        read_answer::<Ended>(&unread, complain).map(|_| 0).map_err(|failure| self.named(failure))
    }

    /// What is broken is between here and there: where that is.
    fn named(&self, failure: Failure) -> Failure {
        match failure.exit {
            Exit::Broken => self.broken(failure.text()),
            _ => failure,
        }
    }

    fn broken(&self, what: &str) -> Failure {
        broken(&format!("{}: {what}", self.socket.display()))
    }

    /// `warn` is told what the server warns of, which goes before its answer.
    pub(crate) fn ask_within<T: DeserializeOwned>(
        &self,
        request: &str,
        limit: Duration,
        warn: impl FnMut(String),
    ) -> Result<T, Failure> {
        let deadline = Deadline::after(limit, &self.socket.display().to_string());
        let failed = |error| deadline.failure(error);
        let client = self.connect(&deadline)?;
        // A server that refuses says why, also if it has not read all.
        let sent = client.send(format!("{request}\n").as_bytes(), deadline.left()?);
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match client.recv(&mut buffer, deadline.left()?) {
                Ok(0) => break,
                Ok(count) => {
                    answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if !may_be_answer(&answer) {
                        return Err(self.broken(NO_CONTROL_SOCKET));
                    }
                }
                // It did not read all that was sent, and has said what it had to say.
                Err(error) if error.os_error() == Some(libc::ECONNRESET) && !answer.is_empty() => break,
                Err(error) => return Err(deadline.failure(error)),
            }
        }
        if answer.is_empty() {
            sent.map_err(failed)?;
        }
        read_answer(&answer, warn).map_err(|failure| self.named(failure))
    }
}

/// Whether an answer may begin like this: somebody else need not end what he says.
fn may_be_answer(begun: &[u8]) -> bool {
    [&b"ok\n"[..], b"error ", b"warning "].iter().any(|word| begun.iter().zip(*word).all(|(a, b)| a == b))
}

fn read_answer<T: DeserializeOwned>(answer: &[u8], mut warn: impl FnMut(String)) -> Result<T, Failure> {
    if answer.is_empty() {
        return Err(broken("the server ended without an answer"));
    }
    let cut = || broken("the server ended within its answer");
    let mut text = str::from_utf8(answer).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(cut)?;
    while let Some((warning, rest)) = text.strip_prefix("warning ").and_then(|rest| rest.split_once('\n')) {
        warn(format!("warning: {}", printable(warning)));
        text = rest;
    }
    let (first, body) = text.split_once('\n').unwrap_or((text, ""));
    if first == "ok" {
        return serde_json::from_str(body).map_err(|error| broken(&format!("the answer: {error}")));
    }
    let error = first.strip_prefix("error ").and_then(|rest| rest.split_once(' '));
    let (code, message) = error.ok_or_else(|| broken(NO_CONTROL_SOCKET))?;
    let exit = Exit::from_number(code).unwrap_or(Exit::Broken);
    let lines: Vec<_> = [message].into_iter().chain(body.lines()).map(printable).collect();
    Err(Failure::new(exit, lines.join("\n")))
}

/// Any bytes of a server: an answer, or an error that cannot command the terminal.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_answer(bytes: &[u8]) {
    for failure in [read_answer::<Ended>(bytes, drop).err(), read_answer::<Vec<Listener>>(bytes, drop).err()]
    {
        let text = failure.as_ref().map(Failure::text).unwrap_or_default();
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }
}

pub(super) fn broken(what: &str) -> Failure {
    Failure::new(Exit::Broken, what)
}

/// The one with this URL, or the only one with this name.
fn number_of(word: &str, listeners: &[Listener]) -> Result<u64, Failure> {
    let is_meant = |listener: &&Listener| listener.url == word || listener.name.as_deref() == Some(word);
    let found: Vec<_> = listeners.iter().filter(is_meant).collect();
    let text = match found.as_slice() {
        [listener] => return Ok(listener.id),
        [] => {
            let known: Vec<_> = listeners.iter().map(|listener| listener.url.as_str()).collect();
            format!("unknown or closed listener: {word}; there are {}", known.join(", "))
        }
        several => {
            let known: Vec<_> = several.iter().map(|listener| listener.url.as_str()).collect();
            format!("{word} has several addresses: {}; name one of them", known.join(", "))
        }
    };
    Err(Failure::new(Exit::Usage, text))
}

/// A URL for a server that may be in another directory.
pub(super) fn absolute(url: &str) -> Result<String, Failure> {
    let url = one_line(url)?;
    let query = url.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    match Address::parse(url) {
        Ok((Address::Unix { kind, name: UnixName::Path(path) }, _)) if path.is_relative() => {
            let failed = |error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
            let name = UnixName::Path(std::path::absolute(&path).map_err(failed)?);
            Ok(Address::Unix { kind, name }.to_string() + &query)
        }
        // The server says what is wrong.
        _ => Ok(url.to_owned()),
    }
}

/// What would end the request in the middle is refused.
pub(super) fn one_line(text: &str) -> Result<&str, Failure> {
    if text.contains('\n') {
        return Err(Failure::new(Exit::Usage, "a line break means nothing here"));
    }
    Ok(text)
}

/// The chain for a line of its own, read by a server that may be in another directory.
pub(crate) fn sendable(spec: &str) -> Result<String, Failure> {
    let breaks = spec.contains('\n');
    let mut chain = match ChainSpec::parse(spec) {
        Ok(chain) => chain,
        Err(error) if breaks => return Err(error.into()),
        // The server says what is wrong.
        Err(_) => return Ok(spec.to_owned()),
    };
    if chain.stages.is_empty() {
        return Ok("identity".to_owned());
    }
    let mut moved = false;
    for stage in &mut chain.stages {
        if let Target::File { path, .. } = &mut stage.target
            && path.is_relative()
        {
            let failed = |error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
            *path = std::path::absolute(&*path).map_err(failed)?;
            moved = true;
        }
    }
    Ok(if moved || breaks { chain.to_string() } else { spec.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(answer: &[u8]) -> (Exit, String) {
        let failure = read_answer::<Ended>(answer, drop).unwrap_err();
        (failure.exit, failure.text().to_owned())
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        assert_eq!(read_answer::<Ended>(b"ok\n{\"ended\":\"drained\"}\n", drop).unwrap().ended, "drained");
        let broken: [&[u8]; 8] = [
            b"",
            b"o",
            b"ok\n",
            b"ok\n{\"ended\":\"drai",
            b"ok\n{\"ended\":\"drained\"}",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\xff\n",
            b"error 2\n",
        ];
        for answer in broken {
            assert_eq!(failure(answer).0, Exit::Broken, "{}", answer.escape_ascii());
        }
        let caret = b"error 2 why (chain \"a ||\", character 4)\n  a ||\n     ^\n";
        assert_eq!(
            failure(caret),
            (Exit::Usage, "why (chain \"a ||\", character 4)\n  a ||\n     ^".to_owned())
        );
        assert_eq!(failure(b"error 6 \x1b[2J\n"), (Exit::Plugin, "\\u001b[2J".to_owned()));
        assert_eq!(failure(b"error 99 from the future\n").0, Exit::Broken);
    }

    #[test]
    fn a_chain_is_sent_as_it_is_unless_it_would_not_arrive() {
        let here = std::env::current_dir().unwrap();
        let table = [
            ("uppercase|  identity", "uppercase|  identity".to_owned()),
            ("", "identity".to_owned()),
            (" ", "identity".to_owned()),
            ("/a/lib.so", "/a/lib.so".to_owned()),
            ("./lib.so | x", format!("{}/lib.so | x", here.display())),
            ("x:text='a\nb'", r#"x:text="a\nb""#.to_owned()),
            // The server says what is wrong with it.
            ("x ||", "x ||".to_owned()),
        ];
        for (spec, wanted) in table {
            assert_eq!(sendable(spec).unwrap(), wanted, "{spec:?}");
        }
        assert_eq!(sendable("x |\n|").unwrap_err().exit, Exit::Usage);
    }
}
