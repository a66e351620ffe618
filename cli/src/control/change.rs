//! What a client of the control socket changes without a new configuration: a listener more, an option, a connection less.
//! A reload makes all that the file speaks of as the file says again.

use resay::net::address::Address;
use resay::{Error, ListenerId, LogLevel, SpecError};

use super::Acceptor;
use super::report::{Closing, Listener, OptionReport};
use crate::exit::{Exit, Failure};
use crate::output;

impl Acceptor {
    pub(super) fn listen(&self, url: &str) -> Result<String, Failure> {
        let done = listenable(url).and_then(|()| {
            let id = self.engine.listen(url)?;
            Ok(self.engine.listener(id)?)
        });
        match done {
            Ok(info) => {
                self.log_change(&info.url, format_args!("listening, chain {:?}", info.chain));
                output::json(&Listener::from(info))
            }
            Err(failure) => self.refuse("", format_args!("listen {url:?}"), failure),
        }
    }

    pub(super) fn set(&self, listener: u64, key: &str, value: &str) -> Result<String, Failure> {
        let id = ListenerId::from_number(listener);
        let url = self.url_of(id)?;
        match self.set_option(id, &url, key, value) {
            Ok(report) => {
                self.log_change(&url, format_args!("{}={}", report.key, report.value));
                output::json(&report)
            }
            Err(failure) => self.refuse(&url, format_args!("{key}={value}"), failure),
        }
    }

    fn set_option(&self, id: ListenerId, url: &str, key: &str, value: &str) -> Result<OptionReport, Failure> {
        if key == "chain" {
            return Err(Failure::new(Exit::Usage, "a chain is swapped with `resay ctl SOCKET chain`"));
        }
        if let Ok((address, _)) = Address::parse(url)
            && let Some(reason) = address.refuses(key)
        {
            return Err(Failure::new(Exit::Usage, reason));
        }
        self.engine.set_listener_option(id, key, value)?;
        let value = self.engine.listener_option(id, key)?.unwrap_or_default();
        Ok(OptionReport { listener: id.number(), key: key.to_owned(), value })
    }

    pub(super) fn close(&self, connection: u64, is_reset: bool) -> Result<String, Failure> {
        let done = if is_reset {
            self.engine.reset_connection(connection)
        } else {
            self.engine.shut_down_connection(connection)
        };
        match done {
            Ok(()) => {
                let how = if is_reset { " at once" } else { "" };
                self.log_change("", format_args!("connection {connection} is to end{how}"));
                output::json(&Closing { closing: connection })
            }
            Err(Error::Handle(_)) => {
                Err(Failure::new(Exit::Usage, format!("unknown or closed connection: {connection}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn log_change(&self, listener: &str, what: std::fmt::Arguments<'_>) {
        self.log.emit(LogLevel::Info, listener, format_args!("control socket: {what}"));
    }

    fn refuse(
        &self,
        listener: &str,
        what: std::fmt::Arguments<'_>,
        failure: Failure,
    ) -> Result<String, Failure> {
        let text = format_args!("control socket: {what} refused: {}", failure.text());
        self.log.emit(LogLevel::Warn, listener, text);
        Err(failure)
    }
}

/// Sockets that somebody has opened for the server are taken when it starts: no client is to name descriptors of the process.
fn listenable(url: &str) -> Result<(), Failure> {
    match Address::parse(url)?.0 {
        Address::Tcp(_) | Address::Udp(_) | Address::Unix { .. } | Address::Tls(_) => Ok(()),
        _ => {
            Err(SpecError::new("address", url, 0, "an inherited socket is named when the server starts")
                .into())
        }
    }
}
