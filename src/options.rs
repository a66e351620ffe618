//! The options of a listener: one table of names for URL queries, `--set`, the configuration file and
//! `resay_set`.
//!
//! Nothing here touches a socket: text becomes values, and what is wrong is refused with the place where it
//! is wrong. Across sources the later one wins; within one URL a key may stand once (`net::address` sees to
//! that).
//!
//! - A size is a whole number of bytes; `k`, `m` and `g` (either case) are powers of 1024.
//! - A duration is a decimal number with a unit: `us`, `ms`, `s`, `m`, `h`. Only `0` needs none.
//! - A count is a whole number without a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::SpecError;
use crate::limits::MESSAGE_BYTES_CEILING;
use crate::transform::spec::ChainSpec;

/// What a listener and its connections do, apart from the address and the transforms.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// `backlog`: connections that may wait to be accepted; Linux clamps it to `net.core.somaxconn`.
    pub backlog: u32,
    /// `nodelay`: send small answers at once (TCP_NODELAY).
    pub nodelay: bool,
    /// `keepalive`: probe silent peers.
    pub keepalive: Keepalive,
    /// `rcvbuf`: SO_RCVBUF; `None` leaves the system's choice.
    pub rcvbuf_bytes: Option<u32>,
    /// `sndbuf`: SO_SNDBUF; `None` leaves the system's choice.
    pub sndbuf_bytes: Option<u32>,
    /// `v6only`: whether an IPv6 socket refuses IPv4; `None` leaves it to the address.
    pub v6only: Option<bool>,
    /// `mode`: permission bits of a unix socket's file, at most 0o777; `None` follows the umask.
    pub mode: Option<u32>,
    /// `frame`: where a message of a stream ends.
    pub frame: Frame,
    /// `max_message`: the longest message; `None` is the default of the socket's kind.
    pub max_message_bytes: Option<usize>,
    /// `max_connections`: how many connections of this listener may be open at once; at least 1.
    pub max_connections: u32,
    /// `idle_timeout`: close a connection that has been silent for so long; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `write_timeout`: close a connection whose peer has taken nothing for so long.
    pub write_timeout: Duration,
    /// `swap_timeout`: how long a connection that cannot go over to a new chain may keep the old one.
    pub swap_timeout: Duration,
    /// `high_water`: unsent bytes at which a connection stops being read.
    pub high_water_bytes: usize,
    /// `chain`: the listener's own chain, as it was written; `None` is the engine's chain.
    pub chain: Option<String>,
}

impl Options {
    /// Sets one option from text. After an error nothing has changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        let entry = Key::find(key).ok_or_else(|| unknown_key(key))?;
        (entry.set)(self, value).map_err(|fault| OptionFault {
            in_key: false,
            at: fault.at,
            message: fault.message,
        })
    }

    /// Sets one option from `key=value`, as `--set` takes it.
    pub fn set_pair(&mut self, pair: &str) -> Result<(), SpecError> {
        let fault = |at, message| SpecError::new("option", pair, at, message);
        let Some((key, value)) = pair.split_once('=') else {
            return match Key::find(pair) {
                Some(key) => {
                    Err(fault(pair.len(), format!("the value is missing: {}={}", key.name, key.value)))
                }
                None => Err(fault(pair.len(), "an option is written key=value".to_owned())),
            };
        };
        self.set(key, value).map_err(|found| {
            let start = if found.in_key { 0 } else { key.len() + 1 };
            fault(start + found.at, found.message)
        })
    }

    /// The canonical text of one option, which [`set`](Options::set) accepts again. `None`: there is no such
    /// key, or `chain` is not set.
    pub fn get(&self, key: &str) -> Option<String> {
        Key::find(key).and_then(|entry| (entry.get)(self))
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            backlog: 1024,
            nodelay: true,
            keepalive: Keepalive::Off,
            rcvbuf_bytes: None,
            sndbuf_bytes: None,
            v6only: None,
            mode: None,
            frame: Frame::Raw,
            max_message_bytes: None,
            max_connections: 65_536,
            idle_timeout: None,
            write_timeout: Duration::from_secs(30),
            swap_timeout: Duration::from_secs(60),
            high_water_bytes: 256 << 10,
            chain: None,
        }
    }
}

/// Whether silent TCP peers are probed (SO_KEEPALIVE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keepalive {
    /// No probes.
    #[default]
    Off,
    /// Probes, when and how often the system says.
    On,
    /// The first probe after this long without a byte: whole seconds, as the system counts.
    After(Duration),
}

/// Where one message of a stream ends and the next begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Frame {
    /// `raw`: a message is whatever one read returned.
    #[default]
    Raw,
    /// `lines`: up to a line feed.
    Lines,
    /// `delim:HEX`: up to these bytes, at least one.
    Delimiter(Vec<u8>),
    /// `len8`: a length of one byte goes before.
    Len8,
    /// `len16be`: a length of two bytes, the high one first.
    Len16Be,
    /// `len16le`: a length of two bytes, the low one first.
    Len16Le,
    /// `len32be`: a length of four bytes, the high one first.
    Len32Be,
    /// `len32le`: a length of four bytes, the low one first.
    Len32Le,
    /// `varint`: a length in groups of seven bits, the low one first.
    Varint,
    /// `fixed:N`: every message has N bytes, at least one.
    Fixed(usize),
}

impl Frame {
    /// Reads a frame as the option `frame` takes it.
    pub fn parse(text: &str) -> Result<Frame, ValueFault> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let frame = match (name, argument) {
            ("delim", argument) => return parse_delimiter(argument, text.len()),
            ("fixed", argument) => return parse_fixed(argument, text.len()),
            ("raw", _) => Frame::Raw,
            ("lines", _) => Frame::Lines,
            ("len8", _) => Frame::Len8,
            ("len16be", _) => Frame::Len16Be,
            ("len16le", _) => Frame::Len16Le,
            ("len32be", _) => Frame::Len32Be,
            ("len32le", _) => Frame::Len32Le,
            ("varint", _) => Frame::Varint,
            ("len16" | "len32", _) => {
                return Err(ValueFault::new(
                    name.len(),
                    format!("the order of the bytes is missing: {name}be or {name}le"),
                ));
            }
            _ => return Err(ValueFault::new(0, unknown_frame(name))),
        };
        match argument {
            Some(_) => Err(ValueFault::new(name.len(), format!("{name} takes nothing after it"))),
            None => Ok(frame),
        }
    }
}

impl FromStr for Frame {
    type Err = ValueFault;

    fn from_str(text: &str) -> Result<Frame, ValueFault> {
        Frame::parse(text)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::Raw => f.write_str("raw"),
            Frame::Lines => f.write_str("lines"),
            Frame::Delimiter(bytes) => {
                f.write_str("delim:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Frame::Len8 => f.write_str("len8"),
            Frame::Len16Be => f.write_str("len16be"),
            Frame::Len16Le => f.write_str("len16le"),
            Frame::Len32Be => f.write_str("len32be"),
            Frame::Len32Le => f.write_str("len32le"),
            Frame::Varint => f.write_str("varint"),
            Frame::Fixed(bytes) => write!(f, "fixed:{bytes}"),
        }
    }
}

/// The kinds of listening socket, as far as options differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressKind {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `unix`
    UnixStream,
    /// `unix-dgram`
    UnixDatagram,
    /// `unix-seqpacket`
    UnixSeqpacket,
    /// `fd` and `systemd`: handed over, of a kind that only the system can tell.
    Inherited,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressKind::Tcp => "tcp",
            AddressKind::Udp => "udp",
            AddressKind::UnixStream => "unix",
            AddressKind::UnixDatagram => "unix-dgram",
            AddressKind::UnixSeqpacket => "unix-seqpacket",
            AddressKind::Inherited => "inherited",
        })
    }
}

/// One row of [`KEYS`]: what help texts, documentation and the parser know of an option.
#[derive(Debug)]
pub struct Key {
    /// The name as it is typed.
    pub name: &'static str,
    /// The form of its value, for example `SIZE`.
    pub value: &'static str,
    /// The default, as it would be typed; empty where nothing is set by default.
    pub fallback: &'static str,
    /// One line about it.
    pub help: &'static str,
    /// The sockets for which it means something. Elsewhere a URL may not name it, and a default is ignored.
    pub applies: &'static [AddressKind],
    set: fn(&mut Options, &str) -> Result<(), ValueFault>,
    get: fn(&Options) -> Option<String>,
}

impl Key {
    /// The row of this name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Whether the option means something for such a socket.
    pub fn applies_to(&self, kind: AddressKind) -> bool {
        self.applies.contains(&kind)
    }
}

/// Every option, in the order in which help texts list them.
pub const KEYS: &[Key] = &[
    Key {
        name: "backlog",
        value: "COUNT",
        fallback: "1024",
        help: "connections that may wait to be accepted (Linux clamps it to net.core.somaxconn)",
        applies: CONNECTED,
        set: |options, text| put(&mut options.backlog, count_within(text, 0, BACKLOG_MAX)),
        get: |options| Some(options.backlog.to_string()),
    },
    Key {
        name: "nodelay",
        value: "0|1",
        fallback: "1",
        help: "send small answers at once (TCP_NODELAY)",
        applies: TCP,
        set: |options, text| put(&mut options.nodelay, parse_bool(text)),
        get: |options| Some(bool_text(options.nodelay)),
    },
    Key {
        name: "keepalive",
        value: "0|1|DURATION",
        fallback: "0",
        help: "probe silent peers, the first time after DURATION",
        applies: TCP,
        set: |options, text| put(&mut options.keepalive, parse_keepalive(text)),
        get: |options| Some(keepalive_text(options.keepalive)),
    },
    Key {
        name: "rcvbuf",
        value: "SIZE|auto",
        fallback: "auto",
        help: "the kernel's receive buffer (SO_RCVBUF)",
        applies: ALL,
        set: |options, text| put(&mut options.rcvbuf_bytes, or_auto(text, parse_socket_buffer)),
        get: |options| Some(auto_text(options.rcvbuf_bytes, |bytes| size_text(bytes.into()))),
    },
    Key {
        name: "sndbuf",
        value: "SIZE|auto",
        fallback: "auto",
        help: "the kernel's send buffer (SO_SNDBUF)",
        applies: ALL,
        set: |options, text| put(&mut options.sndbuf_bytes, or_auto(text, parse_socket_buffer)),
        get: |options| Some(auto_text(options.sndbuf_bytes, |bytes| size_text(bytes.into()))),
    },
    Key {
        name: "v6only",
        value: "0|1|auto",
        fallback: "auto",
        help: "whether an IPv6 socket refuses IPv4 (IPV6_V6ONLY)",
        applies: INTERNET,
        set: |options, text| put(&mut options.v6only, or_auto(text, parse_bool)),
        get: |options| Some(auto_text(options.v6only, bool_text)),
    },
    Key {
        name: "mode",
        value: "OCTAL|auto",
        fallback: "auto",
        help: "permissions of the socket's file; auto follows the umask",
        applies: UNIX,
        set: |options, text| put(&mut options.mode, or_auto(text, parse_mode)),
        get: |options| Some(auto_text(options.mode, |mode| format!("{mode:04o}"))),
    },
    Key {
        name: "frame",
        value: "FRAME",
        fallback: "raw",
        help: "where a message of a stream ends: raw, lines, delim:HEX, len8, len16be|le, len32be|le, \
               varint, fixed:N",
        applies: STREAMS,
        set: |options, text| put(&mut options.frame, Frame::parse(text)),
        get: |options| Some(options.frame.to_string()),
    },
    Key {
        name: "max_message",
        value: "SIZE|auto",
        fallback: "auto",
        help: "the longest message; auto is the default of the socket's kind",
        applies: ALL,
        set: |options, text| put(&mut options.max_message_bytes, or_auto(text, |text| bytes_within(text, 1))),
        get: |options| Some(auto_text(options.max_message_bytes, |bytes| size_text(bytes as u64))),
    },
    Key {
        name: "max_connections",
        value: "COUNT",
        fallback: "65536",
        help: "connections open at once",
        applies: CONNECTED,
        set: |options, text| put(&mut options.max_connections, count_within(text, 1, u32::MAX)),
        get: |options| Some(options.max_connections.to_string()),
    },
    Key {
        name: "idle_timeout",
        value: "DURATION|off",
        fallback: "off",
        help: "close a connection that has been silent for so long",
        applies: CONNECTED,
        set: |options, text| put(&mut options.idle_timeout, parse_idle_timeout(text)),
        get: |options| Some(options.idle_timeout.map_or_else(|| "off".to_owned(), duration_text)),
    },
    Key {
        name: "write_timeout",
        value: "DURATION",
        fallback: "30s",
        help: "close a connection whose peer has taken nothing for so long",
        applies: CONNECTED,
        set: |options, text| {
            put(&mut options.write_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.write_timeout)),
    },
    Key {
        name: "swap_timeout",
        value: "DURATION",
        fallback: "1m",
        help: "after a change of the chain, close a connection that still needs the old one after so long",
        applies: CONNECTED,
        set: |options, text| {
            put(&mut options.swap_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.swap_timeout)),
    },
    Key {
        name: "high_water",
        value: "SIZE",
        fallback: "256k",
        help: "unsent bytes at which a connection stops being read",
        applies: CONNECTED,
        set: |options, text| put(&mut options.high_water_bytes, bytes_within(text, HIGH_WATER_BYTES_MIN)),
        get: |options| Some(size_text(options.high_water_bytes as u64)),
    },
    Key {
        name: "chain",
        value: "CHAIN",
        fallback: "",
        help: "the listener's own transforms, for example uppercase | hex",
        applies: ALL,
        set: |options, text| {
            // Read only for its grammar: what the names mean is for whoever has loaded the transforms.
            ChainSpec::parse(text).map_err(|error| ValueFault::new(error.at, error.message))?;
            put(&mut options.chain, Ok(Some(text.to_owned())))
        },
        get: |options| options.chain.clone(),
    },
];

/// What is wrong with an option, and where in its key or its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OptionFault {
    /// Whether the key is wrong; else the value.
    pub in_key: bool,
    /// The byte offset inside the key or the value.
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

/// What is wrong with a value, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueFault {
    /// The byte offset inside the value.
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl ValueFault {
    /// A fault at byte `at`.
    pub(crate) fn new(at: usize, message: impl Into<String>) -> ValueFault {
        ValueFault { at, message: message.into() }
    }
}

/// Reads a size in bytes: `65536`, `64k`, `1M`.
pub fn parse_size(text: &str) -> Result<u64, ValueFault> {
    size_within(text, 0, u64::MAX)
}

/// Reads a duration of at most a year: `250us`, `1.5s`, `0`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueFault> {
    duration_within(text, Duration::ZERO, DURATION_MAX, "")
}

/// Reads a truth value: `0`, `1`, `false`, `true`, `off` or `on`.
pub fn parse_bool(text: &str) -> Result<bool, ValueFault> {
    match text {
        "0" | "false" | "off" => Ok(false),
        "1" | "true" | "on" => Ok(true),
        _ => Err(ValueFault::new(0, "0 or 1 is expected (also false or true, off or on)")),
    }
}

/// The candidate that was probably meant by `word`: a slip of the keys away, or begun with it.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if word.len() > NEAREST_BYTES_MAX {
        return None;
    }
    let limit = (word.chars().count() / 4 + 1).min(3);
    candidates
        .clone()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
        .or_else(|| candidates.clone().find(|candidate| word.len() >= 3 && candidate.starts_with(word)))
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Rows of the usual table: the one before last, the last, the one being filled.
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut new = vec![row + 1];
        for (column, &wanted) in to.iter().enumerate() {
            let mut cost =
                (old[column] + usize::from(letter != wanted)).min(old[column + 1] + 1).min(new[column] + 1);
            if column > 0 && previous == Some(wanted) && to[column - 1] == letter {
                cost = cost.min(older[column - 1] + 1);
            }
            new.push(cost);
        }
        older = std::mem::replace(&mut old, new);
        previous = Some(letter);
    }
    old[to.len()]
}

/// Stores what was read, if it could be read.
fn put<T>(field: &mut T, value: Result<T, ValueFault>) -> Result<(), ValueFault> {
    *field = value?;
    Ok(())
}

fn unknown_key(key: &str) -> OptionFault {
    let names = KEYS.iter().map(|key| key.name);
    let message = match nearest(key, names.clone()) {
        Some(name) => format!("unknown option; did you mean {name}?"),
        None => format!("unknown option; there are {}", names.collect::<Vec<_>>().join(", ")),
    };
    OptionFault { in_key: true, at: 0, message }
}

fn unknown_frame(name: &str) -> String {
    match nearest(name, FRAMES.iter().copied()) {
        Some(name) => format!("unknown frame; did you mean {name}?"),
        None => format!("unknown frame; there are {}", FRAMES.join(", ")),
    }
}

fn parse_delimiter(argument: Option<&str>, end: usize) -> Result<Frame, ValueFault> {
    let hex = argument.unwrap_or_default();
    let start = end - hex.len();
    if hex.is_empty() {
        return Err(ValueFault::new(end, "the delimiter is missing: delim:0d0a"));
    }
    if let Some((offset, _)) = hex.char_indices().find(|(_, letter)| !letter.is_ascii_hexdigit()) {
        return Err(ValueFault::new(start + offset, "a delimiter is written in hexadecimal digits"));
    }
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for digit in hex.chars().filter_map(|letter| letter.to_digit(16)) {
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push((high << 4 | digit) as u8),
        }
    }
    if high.is_some() {
        return Err(ValueFault::new(end, "a digit is missing: two for each byte"));
    }
    if bytes.len() > DELIMITER_BYTES_MAX {
        let at = start + 2 * DELIMITER_BYTES_MAX;
        return Err(ValueFault::new(at, format!("a delimiter has at most {DELIMITER_BYTES_MAX} bytes")));
    }
    Ok(Frame::Delimiter(bytes))
}

fn parse_fixed(argument: Option<&str>, end: usize) -> Result<Frame, ValueFault> {
    let size = argument.unwrap_or_default();
    if size.is_empty() {
        return Err(ValueFault::new(end, "the size is missing: fixed:64"));
    }
    let start = end - size.len();
    match bytes_within(size, 1) {
        Ok(bytes) => Ok(Frame::Fixed(bytes)),
        Err(fault) => Err(ValueFault::new(start + fault.at, fault.message)),
    }
}

fn parse_keepalive(text: &str) -> Result<Keepalive, ValueFault> {
    match parse_bool(text) {
        Ok(false) => return Ok(Keepalive::Off),
        Ok(true) => return Ok(Keepalive::On),
        Err(fault) if !text.starts_with(|letter: char| letter.is_ascii_digit()) => {
            return Err(ValueFault::new(fault.at, "0, 1 or a duration such as 60s is expected"));
        }
        Err(_) => {}
    }
    let idle = duration_within(text, KEEPALIVE_MIN, KEEPALIVE_MAX, "; 0 turns it off")?;
    if idle.subsec_nanos() != 0 {
        return Err(ValueFault::new(0, "the system counts whole seconds here"));
    }
    Ok(Keepalive::After(idle))
}

fn parse_idle_timeout(text: &str) -> Result<Option<Duration>, ValueFault> {
    if text == "off" || parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(None);
    }
    duration_within(text, TIMEOUT_MIN, DURATION_MAX, "; 0 or off turns it off").map(Some)
}

fn parse_mode(text: &str) -> Result<u32, ValueFault> {
    if text.is_empty() {
        return Err(ValueFault::new(0, "a mode is expected, in octal: 0660"));
    }
    let mut mode: u32 = 0;
    for (offset, letter) in text.char_indices() {
        let Some(digit) = letter.to_digit(8) else {
            return Err(ValueFault::new(offset, "a mode has octal digits, 0 to 7"));
        };
        mode = mode.saturating_mul(8).saturating_add(digit);
    }
    if mode > MODE_MAX {
        return Err(ValueFault::new(0, "out of range: 0 to 0777, in octal"));
    }
    Ok(mode)
}

fn parse_socket_buffer(text: &str) -> Result<u32, ValueFault> {
    // setsockopt takes an int.
    size_within(text, 1, i32::MAX as u64).map(|bytes| bytes as u32)
}

fn bytes_within(text: &str, least: usize) -> Result<usize, ValueFault> {
    size_within(text, least as u64, MESSAGE_BYTES_CEILING as u64).map(|bytes| bytes as usize)
}

fn or_auto<T>(text: &str, read: impl FnOnce(&str) -> Result<T, ValueFault>) -> Result<Option<T>, ValueFault> {
    if text == "auto" { Ok(None) } else { read(text).map(Some) }
}

fn count_within(text: &str, least: u32, most: u32) -> Result<u32, ValueFault> {
    let (number, unit) = leading_number(text, "a count")?;
    if !unit.is_empty() {
        return Err(ValueFault::new(text.len() - unit.len(), "a count has digits only"));
    }
    if number < least.into() || number > most.into() {
        return Err(ValueFault::new(0, format!("out of range: {least} to {most}")));
    }
    Ok(number as u32)
}

fn size_within(text: &str, least: u64, most: u64) -> Result<u64, ValueFault> {
    let (number, unit) = leading_number(text, "a size")?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => {
            let at = text.len() - unit.len();
            return Err(ValueFault::new(
                at,
                "a size is a whole number, with k, m or g (powers of 1024) or without",
            ));
        }
    };
    let bytes = number.saturating_mul(1 << shift);
    if bytes < least.into() || bytes > most.into() {
        let message = format!("out of range: {} to {} bytes", size_text(least), size_text(most));
        return Err(ValueFault::new(0, message));
    }
    Ok(bytes as u64)
}

/// `remark` ends the message about a value out of range.
fn duration_within(
    text: &str,
    least: Duration,
    most: Duration,
    remark: &str,
) -> Result<Duration, ValueFault> {
    let nanoseconds = duration_nanoseconds(text)?;
    if nanoseconds < least.as_nanos() || nanoseconds > most.as_nanos() {
        let message = format!("out of range: {} to {}{remark}", duration_text(least), duration_text(most));
        return Err(ValueFault::new(0, message));
    }
    // In range, so it fits 64 bits: a year has 3.2e16 nanoseconds.
    Ok(Duration::from_nanos(nanoseconds as u64))
}

fn duration_nanoseconds(text: &str) -> Result<u128, ValueFault> {
    let (whole, rest) = leading_number(text, "a duration")?;
    let (fraction, unit) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = leading_digits(rest);
            if digits.is_empty() {
                return Err(ValueFault::new(text.len() - rest.len(), "a digit is expected after the point"));
            }
            rest.split_at(digits.len())
        }
    };
    let scale: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if whole == 0 && fraction.is_empty() => 1,
        "" => return Err(ValueFault::new(text.len(), "the unit is missing: us, ms, s, m or h")),
        _ => {
            return Err(ValueFault::new(
                text.len() - unit.len(),
                "a duration ends in a unit: us, ms, s, m or h",
            ));
        }
    };
    let significant = fraction.trim_end_matches('0');
    let too_fine = || ValueFault::new(0, "finer than a nanosecond");
    if significant.len() > FRACTION_DIGITS_MAX {
        return Err(too_fine());
    }
    let scaled = digits_value(significant).saturating_mul(scale);
    let divisor = significant.chars().fold(1u128, |divisor, _| divisor * 10);
    if !scaled.is_multiple_of(divisor) {
        return Err(too_fine());
    }
    Ok(whole.saturating_mul(scale).saturating_add(scaled / divisor))
}

/// The number that begins `text`, saturated, and what follows it.
fn leading_number<'a>(text: &'a str, what: &str) -> Result<(u128, &'a str), ValueFault> {
    let digits = leading_digits(text);
    if digits.is_empty() {
        let message = match text {
            "" => format!("{what} is missing here"),
            _ => format!("{what} begins with a digit"),
        };
        return Err(ValueFault::new(0, message));
    }
    let (_, rest) = text.split_at(digits.len());
    Ok((digits_value(digits), rest))
}

fn leading_digits(text: &str) -> &str {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    text.strip_suffix(rest).unwrap_or(text)
}

fn digits_value(digits: &str) -> u128 {
    let digits = digits.chars().filter_map(|letter| letter.to_digit(10));
    digits.fold(0u128, |value, digit| value.saturating_mul(10).saturating_add(digit.into()))
}

fn bool_text(value: bool) -> String {
    if value { "1" } else { "0" }.to_owned()
}

fn auto_text<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "auto".to_owned(), text)
}

fn keepalive_text(keepalive: Keepalive) -> String {
    match keepalive {
        Keepalive::Off => "0".to_owned(),
        Keepalive::On => "1".to_owned(),
        Keepalive::After(idle) => duration_text(idle),
    }
}

/// The shortest exact text of a size.
fn size_text(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        _ if bytes == 0 => "0".to_owned(),
        30.. => format!("{}g", bytes >> 30),
        20.. => format!("{}m", bytes >> 20),
        10.. => format!("{}k", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// The exact text of a duration, in the largest unit that makes it whole.
fn duration_text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0".to_owned();
    }
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    match units.iter().find(|(scale, _)| nanoseconds.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", nanoseconds / scale),
        None => format!("{}.{:03}us", nanoseconds / 1_000, nanoseconds % 1_000),
    }
}

const ALL: &[AddressKind] = &[
    AddressKind::Tcp,
    AddressKind::Udp,
    AddressKind::UnixStream,
    AddressKind::UnixDatagram,
    AddressKind::UnixSeqpacket,
    AddressKind::Inherited,
];
const TCP: &[AddressKind] = &[AddressKind::Tcp, AddressKind::Inherited];
/// Before the bind, so not for an inherited socket.
const INTERNET: &[AddressKind] = &[AddressKind::Tcp, AddressKind::Udp];
/// Before the bind, so not for an inherited socket.
const UNIX: &[AddressKind] =
    &[AddressKind::UnixStream, AddressKind::UnixDatagram, AddressKind::UnixSeqpacket];
const STREAMS: &[AddressKind] = &[AddressKind::Tcp, AddressKind::UnixStream, AddressKind::Inherited];
const CONNECTED: &[AddressKind] =
    &[AddressKind::Tcp, AddressKind::UnixStream, AddressKind::UnixSeqpacket, AddressKind::Inherited];

const FRAMES: &[&str] =
    &["raw", "lines", "delim:HEX", "len8", "len16be", "len16le", "len32be", "len32le", "varint", "fixed:N"];

/// listen() takes an int.
const BACKLOG_MAX: u32 = i32::MAX as u32;
const MODE_MAX: u32 = 0o777;
const DELIMITER_BYTES_MAX: usize = 64;
const HIGH_WATER_BYTES_MIN: usize = 1 << 10;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Linux takes 1 to 32767 seconds (MAX_TCP_KEEPIDLE).
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// With more digits (zeros at the end aside) no part of an hour is a whole number of nanoseconds.
const FRACTION_DIGITS_MAX: usize = 13;
/// A longer word is not a slip of the keys; it also bounds the work.
const NEAREST_BYTES_MAX: usize = 32;

const _: () = assert!(HIGH_WATER_BYTES_MIN <= MESSAGE_BYTES_CEILING);
const _: () = assert!(DURATION_MAX.as_nanos() <= u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_and_the_defaults_agree() {
        let defaults = Options::default();
        for key in KEYS {
            assert_eq!(defaults.get(key.name).unwrap_or_default(), key.fallback, "{}", key.name);
            assert!(!key.help.is_empty() && !key.value.is_empty() && !key.applies.is_empty());
            if key.name != "chain" {
                let mut options = Options::default();
                options.set(key.name, key.fallback).unwrap();
                assert_eq!(options, defaults, "{}", key.name);
            }
        }
    }

    #[test]
    fn good_values() {
        let table = [
            ("backlog", "0", "0"),
            ("backlog", "2147483647", "2147483647"),
            ("nodelay", "off", "0"),
            ("nodelay", "true", "1"),
            ("keepalive", "on", "1"),
            ("keepalive", "false", "0"),
            ("keepalive", "90s", "90s"),
            ("keepalive", "1s", "1s"),
            ("rcvbuf", "64K", "64k"),
            ("sndbuf", "4096", "4k"),
            ("sndbuf", "4097", "4097"),
            ("sndbuf", "auto", "auto"),
            ("v6only", "0", "0"),
            ("v6only", "auto", "auto"),
            ("mode", "660", "0660"),
            ("mode", "0", "0000"),
            ("frame", "delim:0D0a", "delim:0d0a"),
            ("frame", "len32le", "len32le"),
            ("frame", "fixed:4k", "fixed:4096"),
            ("max_message", "1g", "1g"),
            ("max_connections", "1", "1"),
            ("idle_timeout", "0", "off"),
            ("idle_timeout", "0s", "off"),
            ("idle_timeout", "off", "off"),
            ("idle_timeout", "1.5s", "1500ms"),
            ("idle_timeout", "0.0015s", "1500us"),
            ("write_timeout", "8760h", "8760h"),
            ("write_timeout", "1.0000015s", "1000001.500us"),
            ("high_water", "1k", "1k"),
            ("chain", "uppercase | hex", "uppercase | hex"),
            ("chain", "", ""),
        ];
        for (key, value, canonical) in table {
            let mut options = Options::default();
            options.set(key, value).unwrap_or_else(|fault| panic!("{key}={value}: {fault}"));
            assert_eq!(options.get(key).as_deref(), Some(canonical), "{key}={value}");
        }
    }

    #[test]
    fn bad_values() {
        let table = [
            ("backlog", "", 0, "missing"),
            ("backlog", "-1", 0, "begins with a digit"),
            ("backlog", "1k", 1, "digits only"),
            ("backlog", "2147483648", 0, "0 to 2147483647"),
            ("nodelay", "yes", 0, "0 or 1"),
            ("keepalive", "yes", 0, "0, 1 or a duration"),
            ("keepalive", "500ms", 0, "1s to 32767s"),
            ("keepalive", "1.5s", 0, "whole seconds"),
            ("keepalive", "10h", 0, "1s to 32767s"),
            ("keepalive", "60", 2, "unit is missing"),
            ("rcvbuf", "0", 0, "1 to 2147483647 bytes"),
            ("rcvbuf", "2g", 0, "out of range"),
            ("rcvbuf", "64kb", 2, "k, m or g"),
            ("rcvbuf", "1.5k", 1, "whole number"),
            ("v6only", "2", 0, "0 or 1"),
            ("mode", "", 0, "octal"),
            ("mode", "0680", 2, "0 to 7"),
            ("mode", "1000", 0, "0777"),
            ("mode", "77777777777777777777777777777777777777777777", 0, "0777"),
            ("frame", "line", 0, "did you mean lines?"),
            ("frame", "json", 0, "there are raw, lines"),
            ("frame", "len16", 5, "len16be or len16le"),
            ("frame", "raw:1", 3, "nothing after"),
            ("frame", "delim", 5, "missing"),
            ("frame", "delim:", 6, "missing"),
            ("frame", "delim:0d0", 9, "two for each byte"),
            ("frame", "delim:0dé", 8, "hexadecimal"),
            ("frame", "fixed:0", 6, "1 to 1g"),
            ("frame", "fixed:1x", 7, "k, m or g"),
            ("max_message", "0", 0, "1 to 1g bytes"),
            ("max_message", "1073741825", 0, "1 to 1g bytes"),
            ("max_connections", "0", 0, "1 to 4294967295"),
            ("max_connections", "99999999999999999999999999999999999999999999", 0, "1 to 4294967295"),
            ("idle_timeout", "30", 2, "unit is missing"),
            ("idle_timeout", "30sec", 2, "ends in a unit"),
            ("idle_timeout", "30 s", 2, "ends in a unit"),
            ("idle_timeout", "1us", 0, "1ms to 8760h; 0 or off"),
            ("idle_timeout", "8761h", 0, "1ms to 8760h"),
            ("idle_timeout", "1.s", 2, "digit is expected"),
            ("idle_timeout", ".5s", 0, "begins with a digit"),
            ("idle_timeout", "0.0001us", 0, "finer than a nanosecond"),
            ("idle_timeout", "1.0000000000000001h", 0, "finer than a nanosecond"),
            ("write_timeout", "0", 0, "1ms to 8760h"),
            ("write_timeout", "99999999999999999999999999999999999999999999h", 0, "1ms to 8760h"),
            ("high_water", "1023", 0, "1k to 1g"),
            ("high_water", "99999999999999999999999999999999999999999999g", 0, "1k to 1g"),
            ("chain", "upper | ", 8, "missing"),
        ];
        for (key, value, at, message) in table {
            let mut options = Options::default();
            let fault = options.set(key, value).expect_err(value);
            assert!(!fault.in_key && fault.at == at, "{key}={value}: {fault:?}");
            assert!(fault.message.contains(message), "{key}={value}: {fault:?}");
            assert_eq!(options, Options::default(), "{key}={value} changed something");
        }
    }

    #[test]
    fn pairs_point_at_the_character() {
        let table = [
            ("backlog=x", 8, "begins with a digit"),
            ("idle_timeout=30", 15, "unit is missing"),
            ("backlog", 7, "backlog=COUNT"),
            ("what", 4, "key=value"),
            ("", 0, "key=value"),
            ("=1", 0, "unknown option"),
            ("bcklog=1", 0, "did you mean backlog?"),
            ("idle-timeout=1s", 0, "did you mean idle_timeout?"),
            ("high=1", 0, "did you mean high_water?"),
            ("max_per_peer=1", 0, "unknown option; there are backlog"),
            ("allow=10.0.0.0/8", 0, "unknown option; there are backlog"),
            ("deny=1", 0, "unknown option; there are backlog"),
            ("allow_uid=1", 0, "unknown option; there are backlog"),
            ("proxy=1", 0, "unknown option; there are backlog"),
        ];
        for (pair, at, message) in table {
            let error = Options::default().set_pair(pair).expect_err(pair);
            assert_eq!((error.subject, error.text.as_str(), error.at), ("option", pair, at), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
        let mut options = Options::default();
        options.set_pair("chain=delay:time=1ms").unwrap();
        assert_eq!(options.chain.as_deref(), Some("delay:time=1ms"));
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!(parse_size("16383m"), Ok(16383 << 20));
        assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
        assert!(
            parse_size("18446744073709551616").unwrap_err().message.contains("0 to 18446744073709551615")
        );
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("000"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0.25h"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("0.001us"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_duration("1.50000000000000000000000000s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0.0").unwrap_err().at, 3);
    }

    #[test]
    fn distances() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("tcp", "tpc", 1),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("é", "e", 1),
        ];
        for (from, to, distance) in table {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }

    fn frames() -> impl Strategy<Value = Frame> {
        prop_oneof![
            Just(Frame::Raw),
            Just(Frame::Lines),
            Just(Frame::Len8),
            Just(Frame::Len16Be),
            Just(Frame::Len16Le),
            Just(Frame::Len32Be),
            Just(Frame::Len32Le),
            Just(Frame::Varint),
            proptest::collection::vec(any::<u8>(), 1..=DELIMITER_BYTES_MAX).prop_map(Frame::Delimiter),
            (1..=MESSAGE_BYTES_CEILING).prop_map(Frame::Fixed),
        ]
    }

    fn options() -> impl Strategy<Value = Options> {
        let timeouts = TIMEOUT_MIN.as_nanos() as u64..=DURATION_MAX.as_nanos() as u64;
        let numbers = (
            0..=BACKLOG_MAX,
            proptest::option::of(1..=i32::MAX as u32),
            proptest::option::of(1..=i32::MAX as u32),
            proptest::option::of(0..=MODE_MAX),
            proptest::option::of(1..=MESSAGE_BYTES_CEILING),
            1..=u32::MAX,
            HIGH_WATER_BYTES_MIN..=MESSAGE_BYTES_CEILING,
        );
        let keepalives = prop_oneof![
            Just(Keepalive::Off),
            Just(Keepalive::On),
            (1u64..=32_767).prop_map(|seconds| Keepalive::After(Duration::from_secs(seconds))),
        ];
        let others = (
            any::<bool>(),
            keepalives,
            any::<Option<bool>>(),
            frames(),
            proptest::option::of(timeouts.clone().prop_map(Duration::from_nanos)),
            timeouts.clone().prop_map(Duration::from_nanos),
            timeouts.prop_map(Duration::from_nanos),
            proptest::option::of("[a-z]{1,8}( [|] [a-z]{1,8}:k=[0-9]{1,3}){0,3}"),
        );
        (numbers, others).prop_map(|(numbers, others)| Options {
            backlog: numbers.0,
            rcvbuf_bytes: numbers.1,
            sndbuf_bytes: numbers.2,
            mode: numbers.3,
            max_message_bytes: numbers.4,
            max_connections: numbers.5,
            high_water_bytes: numbers.6,
            nodelay: others.0,
            keepalive: others.1,
            v6only: others.2,
            frame: others.3,
            idle_timeout: others.4,
            write_timeout: others.5,
            swap_timeout: others.6,
            chain: others.7,
        })
    }

    proptest! {
        #[test]
        fn what_get_says_set_takes(wanted in options()) {
            let mut options = Options::default();
            for key in KEYS {
                if let Some(text) = wanted.get(key.name) {
                    prop_assert_eq!(options.set(key.name, &text), Ok(()), "{}={}", key.name, text);
                }
            }
            prop_assert_eq!(options, wanted);
        }

        #[test]
        fn frames_round_trip(frame in frames()) {
            prop_assert_eq!(frame.to_string().parse::<Frame>(), Ok(frame));
        }

        #[test]
        fn no_text_panics(
            row in 0..KEYS.len(),
            value in prop_oneof![
                any::<String>(),
                "[0-9.]{0,40}(k|g|us|h|s)?",
                "(delim|fixed|len16)?:?[0-9a-f]{0,9}",
            ],
            pair in any::<String>(),
        ) {
            let mut options = Options::default();
            let _ = options.set_pair(&pair);
            if let Err(fault) = options.set(KEYS[row].name, &value) {
                prop_assert!(value.is_char_boundary(fault.at), "{:?}", fault);
            } else {
                let text = options.get(KEYS[row].name).unwrap();
                let mut again = Options::default();
                prop_assert_eq!(again.set(KEYS[row].name, &text), Ok(()));
                prop_assert_eq!(again.get(KEYS[row].name), Some(text));
            }
        }
    }
}
