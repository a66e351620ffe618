//! The table of all options: their names, what they are for, and how text becomes their values.

use super::guard::{
    GuardLevel, guarded, guarded_text, loop_hops_text, networks_text, parse_loop_hops, parse_loop_mark,
    parse_networks, parse_ports, parse_rate, parse_rate_networks, ports_text, rate_networks_text, rate_text,
};
use super::text::{
    BACKLOG_MAX, HIGH_WATER_BYTES_MIN, TIMEOUT_MIN, allow_uid_text, keepalive_text, max_amplification_text,
    min_rate_text, off_text, parse_allow_uid, parse_filter, parse_idle_timeout, parse_keepalive,
    parse_max_amplification, parse_max_per_peer, parse_min_rate, parse_mode, parse_proxy,
    parse_socket_buffer, proxy_text,
};
use super::types::{AddressKind, Options};
use crate::error::{Quoted, SpecError};
use crate::frame::Frame;
use crate::transform::spec::ChainSpec;
use crate::values::{
    DURATION_MAX, ValueFault, auto_text, bool_text, bytes_within, count_within, duration_text,
    duration_within, nearest, or_auto, parse_bool, size_text,
};

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

/// One row of [`KEYS`]: what help texts, documentation and the parser know of an option.
#[derive(Debug)]
pub struct Key {
    /// The name as it is typed.
    pub name: &'static str,
    /// The form of its value, for example `SIZE`.
    pub value: &'static str,
    /// What a value is, apart from words such as `auto`.
    pub kind: ValueType,
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

    /// Whether the option is settled when such a socket is bound. All others can change while the listener is served: see
    /// [`Engine::reconfigure`](crate::Engine::reconfigure).
    pub fn is_settled(&self, kind: AddressKind) -> bool {
        match self.name {
            "backlog" | "rcvbuf" | "sndbuf" | "v6only" | "mode" => true,
            // Each socket has a memory that follows from them.
            "allow" | "deny" | "guard" | "from_ports" | "loop_mark" | "loop_hops" | "rate" | "rate_burst"
            | "rate_networks" | "rate_total" => kind == AddressKind::Udp,
            // The driver has buffers for it.
            "max_message" | "proxy" => matches!(kind, AddressKind::Udp | AddressKind::UnixDatagram),
            _ => false,
        }
    }
}

/// What a value of an option is, for programs that offer options to people. Its texts are as a value would be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueType {
    /// `string`, `bool`, `integer`, `size`, `duration` or `rate`, as in plugins; `octal`, `list`.
    pub name: &'static str,
    /// The unit of a number without one; empty where there is none, or it must be written.
    pub unit: &'static str,
    /// The least number, of a list the least element; empty without a range.
    pub min: &'static str,
    /// The largest.
    pub max: &'static str,
}

impl ValueType {
    const TEXT: ValueType = ValueType::within("string", "", "", "");
    const FLAG: ValueType = ValueType::within("bool", "", "", "");

    const fn within(
        name: &'static str,
        unit: &'static str,
        min: &'static str,
        max: &'static str,
    ) -> ValueType {
        ValueType { name, unit, min, max }
    }
}

/// One option of an engine, beside those of its listeners: see [`Engine::set_threads`](crate::Engine::set_threads) and
/// its neighbours. In C `resay_set` takes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineKey {
    /// The name as it is typed.
    pub name: &'static str,
    /// The form of its value.
    pub value: &'static str,
    /// What a value is.
    pub kind: ValueType,
    /// The default, as it would be typed.
    pub fallback: &'static str,
    /// One line about it.
    pub help: &'static str,
}

/// Every option of an engine.
pub const ENGINE_KEYS: &[EngineKey] = &[
    EngineKey {
        name: "threads",
        value: "COUNT",
        kind: ValueType::within("integer", "threads", "1", "256"),
        fallback: "1",
        help: "threads that share the connections",
    },
    EngineKey {
        name: "backend",
        value: "auto|epoll|uring",
        kind: ValueType::TEXT,
        fallback: "auto",
        help: "the interface of the kernel; auto uses io_uring where it is there and faster",
    },
    EngineKey {
        name: "spin",
        value: "DURATION",
        kind: ValueType::within("duration", "", "0", "1s"),
        fallback: "0",
        help: "time that a thread busy-polls before it sleeps",
    },
    EngineKey {
        name: "watchdog",
        value: "DURATION",
        kind: ValueType::within("duration", "", "0", "24h"),
        fallback: "10s",
        help: "time after which a transform that has not returned is logged; 0: never",
    },
    EngineKey {
        name: "thread_name",
        value: "PREFIX",
        kind: ValueType::TEXT,
        fallback: "resay",
        help: "prefix of the names of the engine's threads, 1 to 15 bytes",
    },
    EngineKey {
        name: "thread_stack",
        value: "SIZE",
        kind: ValueType::within("size", "bytes", "128k", "1g"),
        fallback: "2097152",
        help: "stack size of the engine's threads",
    },
    EngineKey {
        name: "thread_cpus",
        value: "LIST",
        kind: ValueType::within("list", "", "", ""),
        fallback: "",
        help: "processors for the engine's threads, for example 0-3,6; empty: those of the thread that starts it",
    },
];

/// Every option, in the order in which help texts list them.
pub const KEYS: &[Key] = &[
    Key {
        name: "backlog",
        value: "COUNT",
        kind: ValueType::within("integer", "connections", "0", "2147483647"),
        fallback: "1024",
        help: "length of the accept queue (Linux clamps it to net.core.somaxconn)",
        applies: CONNECTED,
        set: |options, text| put(&mut options.backlog, count_within(text, 0, BACKLOG_MAX)),
        get: |options| Some(options.backlog.to_string()),
    },
    Key {
        name: "nodelay",
        value: "0|1",
        kind: ValueType::FLAG,
        fallback: "1",
        help: "send small answers without delay (TCP_NODELAY)",
        applies: TCP,
        set: |options, text| put(&mut options.nodelay, parse_bool(text)),
        get: |options| Some(bool_text(options.nodelay)),
    },
    Key {
        name: "keepalive",
        value: "0|1|DURATION",
        kind: ValueType::within("duration", "", "1s", "32767s"),
        fallback: "0",
        help: "probe silent peers (SO_KEEPALIVE), first after DURATION; without an answer they are gone after twice that time",
        applies: TCP,
        set: |options, text| put(&mut options.keepalive, parse_keepalive(text)),
        get: |options| Some(keepalive_text(options.keepalive)),
    },
    Key {
        name: "rcvbuf",
        value: "SIZE|auto",
        kind: ValueType::within("size", "bytes", "1", "2147483647"),
        fallback: "auto",
        help: "size of the kernel's receive buffer (SO_RCVBUF); a unix socket uses the sender's send buffer",
        applies: NETWORK,
        set: |options, text| put(&mut options.rcvbuf_bytes, or_auto(text, parse_socket_buffer)),
        get: |options| Some(auto_text(options.rcvbuf_bytes, |bytes| size_text(bytes.into()))),
    },
    Key {
        name: "sndbuf",
        value: "SIZE|auto",
        kind: ValueType::within("size", "bytes", "1", "2147483647"),
        fallback: "auto",
        help: "size of the kernel's send buffer (SO_SNDBUF)",
        applies: ALL,
        set: |options, text| put(&mut options.sndbuf_bytes, or_auto(text, parse_socket_buffer)),
        get: |options| Some(auto_text(options.sndbuf_bytes, |bytes| size_text(bytes.into()))),
    },
    Key {
        name: "v6only",
        value: "0|1|auto",
        kind: ValueType::FLAG,
        fallback: "auto",
        help: "an IPv6 socket refuses IPv4 (IPV6_V6ONLY)",
        applies: INTERNET,
        set: |options, text| put(&mut options.v6only, or_auto(text, parse_bool)),
        get: |options| Some(auto_text(options.v6only, bool_text)),
    },
    Key {
        name: "mode",
        value: "OCTAL|auto",
        kind: ValueType::within("octal", "", "0000", "0777"),
        fallback: "auto",
        help: "permissions of the socket file; auto follows the umask",
        applies: UNIX,
        set: |options, text| put(&mut options.mode, or_auto(text, parse_mode)),
        get: |options| Some(auto_text(options.mode, |mode| format!("{mode:04o}"))),
    },
    Key {
        name: "frame",
        value: "FRAME",
        kind: ValueType::TEXT,
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
        kind: ValueType::within("size", "bytes", "1", "1g"),
        fallback: "auto",
        help: "size of the longest message; auto is the default for the kind of socket",
        applies: ALL,
        set: |options, text| put(&mut options.max_message_bytes, or_auto(text, |text| bytes_within(text, 1))),
        get: |options| Some(auto_text(options.max_message_bytes, |bytes| size_text(bytes as u64))),
    },
    Key {
        name: "max_connections",
        value: "COUNT",
        kind: ValueType::within("integer", "connections", "1", "4294967295"),
        fallback: "65536",
        help: "most open connections",
        applies: CONNECTED,
        set: |options, text| put(&mut options.max_connections, count_within(text, 1, u32::MAX)),
        get: |options| Some(options.max_connections.to_string()),
    },
    Key {
        name: "max_per_peer",
        value: "COUNT|off",
        kind: ValueType::within("integer", "connections", "1", "4294967295"),
        fallback: "off",
        help: "most open connections from one IPv4 address, IPv6 /64 network or, on unix sockets, user",
        applies: CONNECTED,
        set: |options, text| put(&mut options.max_per_peer, parse_max_per_peer(text)),
        get: |options| Some(options.max_per_peer.map_or_else(off_text, |count| count.to_string())),
    },
    Key {
        name: "allow_uid",
        value: "UID,...|any",
        kind: ValueType::within("list", "uid", "0", "4294967294"),
        fallback: "any",
        help: "user ids that may connect over a unix socket; others are rejected before anything is read",
        applies: UNIX_CONNECTED,
        set: |options, text| put(&mut options.allow_uid, parse_allow_uid(text)),
        get: |options| Some(allow_uid_text(options.allow_uid.as_deref())),
    },
    Key {
        name: "idle_timeout",
        value: "DURATION|off",
        kind: ValueType::within("duration", "", "1ms", "8760h"),
        fallback: "off",
        help: "close a connection when its peer is silent for DURATION",
        applies: CONNECTED,
        set: |options, text| put(&mut options.idle_timeout, parse_idle_timeout(text)),
        get: |options| Some(options.idle_timeout.map_or_else(off_text, duration_text)),
    },
    Key {
        name: "write_timeout",
        value: "DURATION",
        kind: ValueType::within("duration", "", "1ms", "8760h"),
        fallback: "30s",
        help: "close a connection when its peer reads nothing for DURATION while answers wait",
        applies: CONNECTED,
        set: |options, text| {
            put(&mut options.write_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.write_timeout)),
    },
    Key {
        name: "min_rate",
        value: "SIZE/DURATION|off",
        kind: ValueType::within("rate", "bytes", "", ""),
        fallback: "off",
        help: "close a connection over which less than SIZE passes in DURATION while a message is unfinished or \
               answers wait",
        applies: CONNECTED,
        set: |options, text| put(&mut options.min_rate, parse_min_rate(text)),
        get: |options| Some(options.min_rate.map_or_else(off_text, min_rate_text)),
    },
    Key {
        name: "max_amplification",
        value: "COUNT|auto|off",
        kind: ValueType::within("integer", "times", "1", "4294967295"),
        fallback: "auto",
        help: "drop answers of more than COUNT bytes for each byte of the request, whose source can be forged; auto: \
               no limit on loopback addresses, else 1",
        applies: UDP,
        set: |options, text| put(&mut options.max_amplification, parse_max_amplification(text)),
        get: |options| Some(max_amplification_text(options.max_amplification)),
    },
    Key {
        name: "max_amplification_except",
        value: "NETWORK,...|none",
        kind: ValueType::within("list", "", "", ""),
        fallback: "none",
        help: "networks in which nobody forges sources: answers to them may have any length",
        applies: UDP,
        set: |options, text| {
            let networks = parse_networks(text, "none").map(Option::unwrap_or_default);
            put(&mut options.max_amplification_except, networks)
        },
        get: |options| {
            let networks = Some(options.max_amplification_except.as_slice());
            Some(networks_text(networks.filter(|networks| !networks.is_empty()), "none"))
        },
    },
    Key {
        name: "guard",
        value: GuardLevel::NAMES,
        kind: ValueType::TEXT,
        fallback: "local",
        help: "what auto means for the options of the guard: local ends loops between servers, public also limits \
               rates, messages (1472 bytes) and amplification",
        applies: UDP,
        set: |options, text| put(&mut options.guard, GuardLevel::parse(text)),
        get: |options| Some(options.guard.to_string()),
    },
    Key {
        name: "allow",
        value: "NETWORK,...|any",
        kind: ValueType::within("list", "", "", ""),
        fallback: "any",
        help: "networks that are served, for example 10.0.0.0/8,fd00::/8; others are dropped or rejected before \
               anything is answered; behind a proxy, of those that it names",
        applies: NETWORK,
        set: |options, text| put(&mut options.allow, parse_networks(text, "any")),
        get: |options| Some(networks_text(options.allow.as_deref(), "any")),
    },
    Key {
        name: "deny",
        value: "NETWORK,...|none",
        kind: ValueType::within("list", "", "", ""),
        fallback: "none",
        help: "networks that are not served; the longest prefix of allow and deny decides, deny at a tie",
        applies: NETWORK,
        set: |options, text| {
            put(&mut options.deny, parse_networks(text, "none").map(Option::unwrap_or_default))
        },
        get: |options| {
            let networks = Some(options.deny.as_slice()).filter(|networks| !networks.is_empty());
            Some(networks_text(networks, "none"))
        },
    },
    Key {
        name: "from_ports",
        value: "PORTS|auto|any",
        kind: ValueType::within("list", "port", "0", "65535"),
        fallback: "auto",
        help: "source ports that are answered, for example 1024-65535, which is auto; on loopback addresses that is any",
        applies: UDP,
        set: |options, text| put(&mut options.from_ports, guarded(text, "any", parse_ports)),
        get: |options| Some(guarded_text(&options.from_ports, "any", ports_text)),
    },
    Key {
        name: "loop_hops",
        value: "COUNT:COUNT|auto|off",
        kind: ValueType::TEXT,
        fallback: "auto",
        help: "answers that one peer may send back before one is dropped: from ports below 32768 or the listener's \
               own, and from others; auto: 2:256, on loopback addresses 2:off",
        applies: UDP,
        set: |options, text| put(&mut options.loop_hops, guarded(text, "off", parse_loop_hops)),
        get: |options| Some(guarded_text(&options.loop_hops, "off", loop_hops_text)),
    },
    Key {
        name: "loop_mark",
        value: "HOPS|auto|off",
        kind: ValueType::within("integer", "hops", "186", "254"),
        fallback: "auto",
        help: "hop limit of answers; datagrams that arrive with HOPS-56 to HOPS are answers of servers and dropped; \
               auto: 216",
        applies: UDP,
        set: |options, text| put(&mut options.loop_mark, guarded(text, "off", parse_loop_mark)),
        get: |options| Some(guarded_text(&options.loop_mark, "off", u8::to_string)),
    },
    Key {
        name: "rate",
        value: "COUNT/DURATION|auto|off",
        kind: ValueType::within("rate", "messages", "", ""),
        fallback: "auto",
        help: "most datagrams of one network that are answered; auto: off, with guard=public 200/1s",
        applies: UDP,
        set: |options, text| put(&mut options.rate, guarded(text, "off", parse_rate)),
        get: |options| Some(guarded_text(&options.rate, "off", rate_text)),
    },
    Key {
        name: "rate_burst",
        value: "COUNT|auto",
        kind: ValueType::within("integer", "messages", "1", "4294967295"),
        fallback: "auto",
        help: "datagrams of one network that are answered at once; auto: those of two seconds",
        applies: UDP,
        set: |options, text| {
            put(&mut options.rate_burst, or_auto(text, |text| count_within(text, 1, u32::MAX)))
        },
        get: |options| Some(auto_text(options.rate_burst, |count| count.to_string())),
    },
    Key {
        name: "rate_networks",
        value: "BITS/BITS",
        kind: ValueType::TEXT,
        fallback: "24/56",
        help: "lengths of the prefixes that are one network for rate, for IPv4 and IPv6",
        applies: UDP,
        set: |options, text| put(&mut options.rate_networks, parse_rate_networks(text)),
        get: |options| Some(rate_networks_text(options.rate_networks)),
    },
    Key {
        name: "rate_total",
        value: "COUNT/DURATION|auto|off",
        kind: ValueType::within("rate", "messages", "", ""),
        fallback: "auto",
        help: "most datagrams of all networks that are answered; auto: off, with guard=public 50000/1s",
        applies: UDP,
        set: |options, text| put(&mut options.rate_total, guarded(text, "off", parse_rate)),
        get: |options| Some(guarded_text(&options.rate_total, "off", rate_text)),
    },
    Key {
        name: "proxy",
        value: "off|v1|v2|any",
        kind: ValueType::TEXT,
        fallback: "off",
        help: "PROXY header that stands before each stream, or (v2) in each datagram, and names the peer; what comes \
               without one is refused",
        applies: PROXIED,
        set: |options, text| put(&mut options.proxy, parse_proxy(text)),
        get: |options| Some(proxy_text(options.proxy)),
    },
    Key {
        name: "proxy_from",
        value: "NETWORK,...|auto",
        kind: ValueType::within("list", "", "", ""),
        fallback: "auto",
        help: "networks of the proxies, whose headers are believed; others are rejected or dropped; auto: any peer of \
               a loopback address, elsewhere it has to be set",
        applies: NETWORK,
        set: |options, text| put(&mut options.proxy_from, parse_networks(text, "auto")),
        get: |options| Some(networks_text(options.proxy_from.as_deref(), "auto")),
    },
    Key {
        name: "proxy_timeout",
        value: "DURATION",
        kind: ValueType::within("duration", "", "1ms", "8760h"),
        fallback: "3s",
        help: "close a connection whose PROXY header takes longer than DURATION",
        applies: STREAMS,
        set: |options, text| {
            put(&mut options.proxy_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.proxy_timeout)),
    },
    Key {
        name: "swap_timeout",
        value: "DURATION",
        kind: ValueType::within("duration", "", "1ms", "8760h"),
        fallback: "1m",
        help: "close a connection that still needs the old chain DURATION after the chain was replaced",
        applies: CONNECTED,
        set: |options, text| {
            put(&mut options.swap_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.swap_timeout)),
    },
    Key {
        name: "high_water",
        value: "SIZE",
        kind: ValueType::within("size", "bytes", "1k", "1g"),
        fallback: "256k",
        help: "size of unsent answers at which Resay stops reading from a connection",
        applies: CONNECTED,
        set: |options, text| put(&mut options.high_water_bytes, bytes_within(text, HIGH_WATER_BYTES_MIN)),
        get: |options| Some(size_text(options.high_water_bytes as u64)),
    },
    Key {
        name: "filter",
        value: "FILTER|off",
        kind: ValueType::TEXT,
        fallback: "off",
        help: "what stands between the socket and the stream, for example tls:cert=/etc/echo.pem,key=/etc/echo.key",
        applies: STREAMS,
        set: |options, text| put(&mut options.filter, parse_filter(text)),
        get: |options| Some(options.filter.clone().unwrap_or_else(off_text)),
    },
    Key {
        name: "handshake_timeout",
        value: "DURATION",
        kind: ValueType::within("duration", "", "1ms", "8760h"),
        fallback: "10s",
        help: "reset a connection whose filter has not finished its handshake within DURATION",
        applies: STREAMS,
        set: |options, text| {
            put(&mut options.handshake_timeout, duration_within(text, TIMEOUT_MIN, DURATION_MAX, ""))
        },
        get: |options| Some(duration_text(options.handshake_timeout)),
    },
    Key {
        name: "chain",
        value: "CHAIN",
        kind: ValueType::TEXT,
        fallback: "",
        help: "chain of this listener, for example uppercase | hex",
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

/// Stores what was read, if it could be read.
fn put<T>(field: &mut T, value: Result<T, ValueFault>) -> Result<(), ValueFault> {
    *field = value?;
    Ok(())
}

fn unknown_key(key: &str) -> OptionFault {
    let names = KEYS.iter().map(|key| key.name);
    if ENGINE_KEYS.iter().any(|known| known.name == key) {
        let message = format!("{key} is an option of the whole engine, not of a listener");
        return OptionFault { in_key: true, at: 0, message };
    }
    let message = match nearest(key, names.clone()) {
        Some(name) => format!("unknown option {}, did you mean {name:?}?", Quoted(key)),
        None => format!("unknown option {}; there are {}", Quoted(key), names.collect::<Vec<_>>().join(", ")),
    };
    OptionFault { in_key: true, at: 0, message }
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
const UDP: &[AddressKind] = &[AddressKind::Udp, AddressKind::Inherited];
/// All that can have a header of a proxy.
const PROXIED: &[AddressKind] = &[
    AddressKind::Tcp,
    AddressKind::Udp,
    AddressKind::UnixStream,
    AddressKind::UnixDatagram,
    AddressKind::Inherited,
];
const NETWORK: &[AddressKind] = &[AddressKind::Tcp, AddressKind::Udp, AddressKind::Inherited];
/// Before the bind, so not for an inherited socket.
const INTERNET: &[AddressKind] = &[AddressKind::Tcp, AddressKind::Udp];
/// Before the bind, so not for an inherited socket.
const UNIX: &[AddressKind] =
    &[AddressKind::UnixStream, AddressKind::UnixDatagram, AddressKind::UnixSeqpacket];
const UNIX_CONNECTED: &[AddressKind] =
    &[AddressKind::UnixStream, AddressKind::UnixSeqpacket, AddressKind::Inherited];
const STREAMS: &[AddressKind] = &[AddressKind::Tcp, AddressKind::UnixStream, AddressKind::Inherited];
const CONNECTED: &[AddressKind] =
    &[AddressKind::Tcp, AddressKind::UnixStream, AddressKind::UnixSeqpacket, AddressKind::Inherited];
