//! The lines of clients, read.

use std::str::FromStr;
use std::time::Duration;

use resay::EventKind;
use resay::options::parse_duration;

use super::stream::TAP_BYTES_MAX;
use crate::exit::{Exit, Failure};

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Stats,
    Connections {
        /// Only the slowest.
        most: Option<usize>,
    },
    Listeners,
    Config,
    /// With what the operator wants it to be.
    Health {
        is_failed: Option<bool>,
    },
    Reload,
    Watch {
        /// [Bits](EventKind::bit).
        kinds: u32,
    },
    Tap {
        listener: u64,
        count: u64,
        bytes: usize,
    },
    Listen {
        url: String,
    },
    Set {
        listener: u64,
        key: String,
        value: String,
    },
    Close {
        connection: u64,
        is_reset: bool,
    },
    Chain {
        listener: u64,
        spec: String,
    },
    Drain {
        within: Duration,
    },
    Stop,
    HandOver,
}

impl FromStr for Request {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Request, Failure> {
        let wrong = |what: &str| Failure::new(Exit::Usage, format!("control request {line:?}: {what}"));
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (verb, rest.trim()) {
            ("stats", "") => Ok(Request::Stats),
            ("connections", "") => Ok(Request::Connections { most: None }),
            ("connections", most) => match most.parse() {
                Ok(most) => Ok(Request::Connections { most: Some(most) }),
                Err(_) => Err(wrong("connections or connections COUNT is expected")),
            },
            ("listeners", "") => Ok(Request::Listeners),
            ("config", "") => Ok(Request::Config),
            ("health", "") => Ok(Request::Health { is_failed: None }),
            ("health", "fail") => Ok(Request::Health { is_failed: Some(true) }),
            ("health", "ok") => Ok(Request::Health { is_failed: Some(false) }),
            ("reload", "") => Ok(Request::Reload),
            ("stop", "") => Ok(Request::Stop),
            ("handover", "1") => Ok(Request::HandOver),
            ("watch", kinds) => {
                kinds_of(kinds).map(|kinds| Request::Watch { kinds }).map_err(|what| wrong(&what))
            }
            ("tap", rest) => tap_of(rest).ok_or_else(|| {
                let most = TAP_BYTES_MAX;
                wrong(&format!("tap NUMBER COUNT BYTES is expected, with 1 to {most} bytes"))
            }),
            ("listen", url) if !url.is_empty() => Ok(Request::Listen { url: url.to_owned() }),
            ("set", rest) => {
                let mut words = rest.splitn(3, ' ');
                match (words.next().and_then(|word| word.parse().ok()), words.next(), words.next()) {
                    (Some(listener), Some(key), Some(value)) => {
                        Ok(Request::Set { listener, key: key.to_owned(), value: value.to_owned() })
                    }
                    _ => Err(wrong("set NUMBER KEY VALUE is expected")),
                }
            }
            ("close", rest) => {
                let (number, how) = rest.split_once(' ').unwrap_or((rest, ""));
                match (number.parse(), how) {
                    (Ok(connection), "" | "reset") => {
                        Ok(Request::Close { connection, is_reset: !how.is_empty() })
                    }
                    _ => Err(wrong("close NUMBER or close NUMBER reset is expected")),
                }
            }
            ("drain", within) => {
                let within = parse_duration(within).map_err(|error| wrong(&error.to_string()))?;
                Ok(Request::Drain { within })
            }
            ("chain", rest) => {
                let (listener, spec) =
                    rest.split_once(' ').ok_or_else(|| wrong("chain NUMBER SPEC is expected"))?;
                let listener = listener.parse().map_err(|_| wrong("a listener's number is expected"))?;
                Ok(Request::Chain { listener, spec: spec.to_owned() })
            }
            _ => Err(wrong(
                "there are stats, connections, listeners, config, health, watch, tap, reload, chain, listen, set, close, \
                 drain, stop and handover 1",
            )),
        }
    }
}

impl Request {
    /// Whether it changes nothing, and shows nothing of what peers say.
    pub(super) fn is_reading(&self) -> bool {
        use Request::{Config, Connections, Health, Listeners, Stats, Watch};
        matches!(
            self,
            Stats | Connections { .. } | Listeners | Config | Health { is_failed: None } | Watch { .. }
        )
    }
}

/// The bits of kinds of events, with a comma between their names; all of them if there are none.
fn kinds_of(names: &str) -> Result<u32, String> {
    let all = EventKind::ALL;
    if names.is_empty() {
        return Ok(all.iter().map(|kind| kind.bit()).sum());
    }
    let mut kinds = 0;
    for name in names.split(',') {
        let Some(kind) = all.iter().find(|kind| kind.name() == name) else {
            let known: Vec<_> = all.iter().map(|kind| kind.name()).collect();
            return Err(format!("unknown kind of event {name:?}; there are {}", known.join(", ")));
        };
        kinds |= kind.bit();
    }
    Ok(kinds)
}

fn tap_of(rest: &str) -> Option<Request> {
    let mut numbers = rest.split(' ').map(|word| word.parse::<u64>().ok());
    let (listener, count, bytes) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let bytes = usize::try_from(bytes).ok().filter(|bytes| (1..=TAP_BYTES_MAX).contains(bytes))?;
    numbers.next().is_none().then_some(Request::Tap { listener, count, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let chain = |listener, spec: &str| Request::Chain { listener, spec: spec.to_owned() };
        let table = [
            ("stats", Request::Stats),
            ("stats ", Request::Stats),
            ("connections", Request::Connections { most: None }),
            ("connections 100", Request::Connections { most: Some(100) }),
            ("listeners", Request::Listeners),
            ("config", Request::Config),
            ("health", Request::Health { is_failed: None }),
            ("health fail", Request::Health { is_failed: Some(true) }),
            ("health ok", Request::Health { is_failed: Some(false) }),
            ("reload", Request::Reload),
            ("stop", Request::Stop),
            ("watch", Request::Watch { kinds: (1 << EventKind::ALL.len()) - 1 }),
            (
                "watch accepted,dropped",
                Request::Watch { kinds: EventKind::Accepted.bit() | EventKind::Dropped.bit() },
            ),
            ("tap 0 10 64", Request::Tap { listener: 0, count: 10, bytes: 64 }),
            ("listen tcp://:0", Request::Listen { url: "tcp://:0".to_owned() }),
            (
                "set 3 allow 10.0.0.0/8, ::1",
                Request::Set { listener: 3, key: "allow".to_owned(), value: "10.0.0.0/8, ::1".to_owned() },
            ),
            ("close 7", Request::Close { connection: 7, is_reset: false }),
            ("close 7 reset", Request::Close { connection: 7, is_reset: true }),
            ("drain 250ms", Request::Drain { within: Duration::from_millis(250) }),
            ("chain 0 identity", chain(0, "identity")),
            ("chain 7 uppercase | identity", chain(7, "uppercase | identity")),
        ];
        for (line, wanted) in table {
            assert_eq!(line.parse::<Request>().unwrap(), wanted, "{line:?}");
        }
    }

    #[test]
    fn whoever_only_reads_changes_nothing() {
        let reading = ["stats", "connections", "connections 3", "listeners", "config", "health", "watch"];
        let others =
            ["health fail", "health ok", "reload", "stop", "drain 1s", "chain 0 identity", "tap 0 1 1"];
        let more = ["listen tcp://:0", "set 1 nodelay 0", "close 1"];
        for line in reading {
            assert!(line.parse::<Request>().unwrap().is_reading(), "{line:?}");
        }
        for line in others.into_iter().chain(more) {
            assert!(!line.parse::<Request>().unwrap().is_reading(), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let table = [
            "",
            " ",
            " stats",
            "Stats",
            "stats all",
            "connections all",
            "connections -1",
            "stop now",
            "health bad",
            "watch nonsense",
            "watch accepted,",
            "tap",
            "tap 1 2",
            "tap 1 2 0",
            "tap 1 2 65537",
            "tap 1 2 3 4",
            "listen",
            "set 1 idle_timeout",
            "set one idle_timeout 1s",
            "close",
            "close 7 now",
            "drain",
            "drain soon",
            "drain 1s 2s",
            "chain",
            "chain 1",
            // A blank too many must not take a chain away.
            "chain 1 ",
            "chain x identity",
            "chain -1 identity",
            "chain 99999999999999999999 identity",
        ];
        for line in table {
            let failure = line.parse::<Request>().unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{line:?}");
            assert_eq!(failure.text().lines().count(), 1, "{line:?}");
        }
    }
}
