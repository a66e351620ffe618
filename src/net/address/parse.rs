//! From a URL to an address and its options. What is refused is refused at its character, and through percent-decoding
//! too: a fault inside a decoded value is traced back to where the URL spells it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use super::escape::{Decoded, Pair, Parsed, Part, decode};
use super::{Address, Endpoint, Host, Listen, UnixKind, UnixName, Written, Zone};
use crate::error::SpecError;
use crate::options::{Key, Options, ValueFault, nearest};
use crate::transform::spec::{OptionSpec, StageSpec};

impl Listen {
    /// Reads a URL and applies its query over `defaults`.
    pub fn parse(url: &str, defaults: &Options) -> Result<Listen, SpecError> {
        let (address, pairs) = Address::parse(url)?;
        let mut options = defaults.clone();
        let mut filter = None;
        for pair in &pairs {
            // What is no option of a listener is one of its filter, which only that knows.
            if matches!(address, Address::Tls(_)) && Key::find(&pair.key).is_none() {
                let options = &mut filter.get_or_insert_with(StageSpec::tls).options;
                options.push(OptionSpec {
                    key: pair.key.clone(),
                    value: pair.value.clone().into_bytes(),
                    key_at: pair.key_at(0),
                    value_at: pair.value_at(0),
                });
                continue;
            }
            if matches!(address, Address::Tls(_)) && pair.key == "filter" {
                let reason = "this address has a filter: its options are written as cert=…&key=…";
                return Err(SpecError::new(SUBJECT, url, pair.key_at(0), reason));
            }
            if let Some(reason) = address.refuses(&pair.key) {
                return Err(SpecError::new(SUBJECT, url, pair.key_at(0), reason));
            }
            options.set(&pair.key, &pair.value).map_err(|fault| {
                let at = if fault.in_key { pair.key_at(fault.at) } else { pair.value_at(fault.at) };
                SpecError::new(SUBJECT, url, at, fault.message)
            })?;
        }
        if matches!(address, Address::Tls(_)) {
            // Without options of its own, it has those that hold for all listeners.
            let is_tls = |text: &String| {
                StageSpec::parse_filter(text).is_ok_and(|filter| filter.target == StageSpec::tls().target)
            };
            if filter.is_some() || !options.filter.as_ref().is_some_and(is_tls) {
                options.filter = Some(filter.unwrap_or_else(StageSpec::tls).to_string());
            }
        }
        Ok(Listen { address, options, written: Written { url: url.to_owned(), pairs } })
    }
}

impl Address {
    /// Reads a URL: the address, and the options of its query in their order, no key twice. The options are
    /// decoded but not yet understood; [`Listen::parse`] does both.
    pub fn parse(text: &str) -> Result<(Address, Vec<Pair>), SpecError> {
        parse_url(text).map_err(|fault| SpecError::new(SUBJECT, text, fault.at, fault.message))
    }
}

/// Reads an address without options.
impl FromStr for Address {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Address, SpecError> {
        let (address, pairs) = Address::parse(text)?;
        match pairs.first() {
            None => Ok(address),
            Some(pair) => Err(SpecError::new(SUBJECT, text, pair.key_at(0), "no options are taken here")),
        }
    }
}

fn parse_url(text: &str) -> Parsed<(Address, Vec<Pair>)> {
    if let Some((offset, letter)) = text.char_indices().find(|(_, letter)| letter.is_control()) {
        let mut bytes = [0; 4];
        let bytes = letter.encode_utf8(&mut bytes).bytes();
        let spelled: String = bytes.map(|byte| format!("%{byte:02X}")).collect();
        return Err(ValueFault::new(offset, format!("a control character is written {spelled}")));
    }
    let url = Part { at: 0, text };
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme.text)) else {
        return Err(ValueFault::new(0, scheme_hint(text)));
    };
    let read: fn(Part<'_>) -> Parsed<Address> = match scheme.text.to_ascii_lowercase().as_str() {
        "tcp" => |body| parse_endpoint("tcp", body).map(Address::Tcp),
        "udp" => |body| parse_endpoint("udp", body).map(Address::Udp),
        "unix" => |body| parse_unix(UnixKind::Stream, body),
        "tls" => |body| parse_endpoint("tls", body).map(Address::Tcp).map(Box::new).map(Address::Tls),
        "unix+tls" => |body| parse_unix(UnixKind::Stream, body).map(Box::new).map(Address::Tls),
        "unix-dgram" => |body| parse_unix(UnixKind::Datagram, body),
        "unix-seqpacket" => |body| parse_unix(UnixKind::Seqpacket, body),
        "fd" => parse_descriptor,
        "systemd" => parse_systemd,
        _ => return Err(ValueFault::new(0, unknown_scheme(text, scheme.text))),
    };
    if let Some((before, _)) = rest.split_once('#') {
        return Err(ValueFault::new(
            before.end(),
            "a fragment means nothing here; a literal # is written %23",
        ));
    }
    let (body, query) = match rest.split_once('?') {
        Some((body, query)) => (body, Some(query)),
        None => (rest, None),
    };
    let address = read(body)?;
    let may_repeat = matches!(address, Address::Tls(_));
    let pairs = query.map_or(Ok(Vec::new()), |query| parse_query(query, may_repeat))?;
    Ok((address, pairs))
}

/// `may_repeat`: options that are not a listener's may be given several times.
fn parse_query(query: Part<'_>, may_repeat: bool) -> Parsed<Vec<Pair>> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut next = Some(query);
    while let Some(rest) = next {
        let (text, after) = match rest.split_once('&') {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        next = after;
        if text.text.is_empty() {
            return Err(ValueFault::new(text.at, "an option is missing here: key=value"));
        }
        let Some((key, value)) = text.split_once('=') else {
            return Err(ValueFault::new(text.end(), "the value is missing: an option is written key=value"));
        };
        let (key, key_origin) = decode(key)?.into_text()?;
        let (value, value_origin) = decode(value)?.into_text()?;
        let is_once = !may_repeat || Key::find(&key).is_some();
        if is_once && pairs.iter().any(|earlier| earlier.key == key) {
            return Err(ValueFault::new(text.at, "this option is given twice"));
        }
        pairs.push(Pair { key, value, key_origin, value_origin });
    }
    Ok(pairs)
}

fn parse_endpoint(scheme: &str, body: Part<'_>) -> Parsed<Endpoint> {
    let Some(authority) = body.strip_prefix("//") else {
        return Err(ValueFault::new(body.at, format!("// is missing: {scheme}://HOST:PORT")));
    };
    let (authority, path) = match authority.split_once('/') {
        Some((authority, _)) => (authority, true),
        None => (authority, false),
    };
    if authority.text.contains('@') {
        return Err(ValueFault::new(authority.at, "a user's name means nothing here"));
    }
    let endpoint = match authority.strip_prefix("[") {
        Some(inside) => parse_bracketed(scheme, inside)?,
        None => parse_host_and_port(scheme, authority)?,
    };
    if path {
        return Err(ValueFault::new(authority.end(), "a path after the port means nothing here"));
    }
    Ok(endpoint)
}

fn parse_bracketed(scheme: &str, inside: Part<'_>) -> Parsed<Endpoint> {
    let Some((host, after)) = inside.split_once(']') else {
        return Err(ValueFault::new(inside.end(), "the closing ] is missing"));
    };
    let host = parse_ipv6(scheme, host)?;
    match after.strip_prefix(":") {
        Some(port) => Ok(Endpoint { port: parse_port(scheme, &host, port)?, host }),
        None if after.text.is_empty() => Err(port_missing(scheme, &host, after.at)),
        None => Err(ValueFault::new(after.at, "after the ] come a colon and the port")),
    }
}

fn parse_ipv6(scheme: &str, text: Part<'_>) -> Parsed<Host> {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let Ok(address) = address.text.parse::<Ipv6Addr>() else {
        let message = match address.text.parse::<Ipv4Addr>() {
            Ok(v4) => format!("an IPv4 address stands without brackets: {scheme}://{v4}:PORT"),
            Err(_) => "this is not an IPv6 address".to_owned(),
        };
        return Err(ValueFault::new(text.at, message));
    };
    match scope {
        None if is_link_local(&address) => {
            let message = format!("a link-local address needs its network interface: [{address}%eth0]");
            Err(ValueFault::new(text.end(), message))
        }
        None => Ok(Host::V6(address, None)),
        Some(zone) => parse_zone(zone).map(|zone| Host::V6(address, Some(zone))),
    }
}

/// Unicast and multicast addresses that each link has its own of (RFC 4291).
fn is_link_local(address: &Ipv6Addr) -> bool {
    address.is_unicast_link_local() || address.segments()[0] & 0xff0f == 0xff02
}

/// Reads what follows the `%`. A URL spells the percent sign itself `%25` (RFC 6874), but who types one rarely does.
fn parse_zone(text: Part<'_>) -> Parsed<Zone> {
    let zone = text.strip_prefix("25").filter(|zone| !zone.text.is_empty()).unwrap_or(text);
    let message = "a zone is a network interface, by name or number: [fe80::1%eth0]";
    let decoded = decode(zone)?;
    let wrong = |byte: &u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':');
    if let Some(offset) = decoded.bytes.iter().position(wrong) {
        return Err(ValueFault::new(decoded.at(offset), message));
    }
    if decoded.bytes.len() > INTERFACE_BYTES_MAX {
        let message = format!("the name of a network interface has at most {INTERFACE_BYTES_MAX} characters");
        return Err(ValueFault::new(decoded.at(INTERFACE_BYTES_MAX), message));
    }
    let (name, _) = decoded.into_text()?;
    if name.is_empty() {
        return Err(ValueFault::new(zone.at, message));
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = name.parse().map_err(|_| ValueFault::new(zone.at, message))?;
        return Ok(Zone::Index(index));
    }
    Ok(Zone::Name(name))
}

fn parse_host_and_port(scheme: &str, authority: Part<'_>) -> Parsed<Endpoint> {
    if authority.text.is_empty() {
        let message = format!("the host and the port are missing: {scheme}://127.0.0.1:8888");
        return Err(ValueFault::new(authority.at, message));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if let Some((before, _)) = host.split_once(':') {
        let (address, port) = match (host.text.parse::<Ipv6Addr>(), authority.text.parse::<Ipv6Addr>()) {
            (Ok(address), _) => (address, port.map_or("PORT", |port| port.text)),
            (_, Ok(address)) => (address, "PORT"),
            _ => {
                let message =
                    "one colon only, before the port; an IPv6 address stands in brackets: [::1]:8888";
                return Err(ValueFault::new(before.end(), message));
            }
        };
        let message = format!("an IPv6 address stands in brackets: {scheme}://[{address}]:{port}");
        return Err(ValueFault::new(authority.at, message));
    }
    let host = parse_host(scheme, host)?;
    match port {
        Some(port) => Ok(Endpoint { port: parse_port(scheme, &host, port)?, host }),
        None => Err(port_missing(scheme, &host, authority.end())),
    }
}

fn parse_host(scheme: &str, host: Part<'_>) -> Parsed<Host> {
    let text = host.text;
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::V4(address));
    }
    if text == "*" {
        let message = format!("all addresses are written without a host: {scheme}://:PORT");
        return Err(ValueFault::new(host.at, message));
    }
    let wrong = |letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '.' | '_');
    if let Some((offset, _)) = text.char_indices().find(|(_, letter)| wrong(*letter)) {
        return Err(ValueFault::new(host.at + offset, "a host has letters, digits, '-', '.' and '_'"));
    }
    // From here on the host is ASCII.
    if text.len() > HOST_BYTES_MAX {
        let message = format!("a host has at most {HOST_BYTES_MAX} characters, this one has {}", text.len());
        return Err(ValueFault::new(host.at + HOST_BYTES_MAX, message));
    }
    let empty_label = if text.starts_with('.') { Some(0) } else { text.find("..").map(|offset| offset + 1) };
    if let Some(offset) = empty_label {
        return Err(ValueFault::new(host.at + offset, "nothing stands before this point"));
    }
    // Resolvers read 1.2.3 or 0x7f.1 as an IPv4 address, each in its own way.
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let digits = |digits: &str, radix| digits.chars().all(|letter| letter.is_digit(radix));
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if digits(last, 10) || hexadecimal.is_some_and(|last| digits(last, 16)) {
        let message = "this is not an IPv4 address: four numbers from 0 to 255, without leading zeros";
        return Err(ValueFault::new(host.at, message));
    }
    Ok(Host::Name(text.to_owned()))
}

fn parse_port(scheme: &str, host: &Host, port: Part<'_>) -> Parsed<u16> {
    if port.text.is_empty() {
        return Err(port_missing(scheme, host, port.at));
    }
    match parse_number(port, "a port has digits only")?.map(u16::try_from) {
        Some(Ok(port)) => Ok(port),
        _ => Err(ValueFault::new(port.at, "out of range: a port is 0 to 65535")),
    }
}

fn port_missing(scheme: &str, host: &Host, at: usize) -> ValueFault {
    ValueFault::new(at, format!("the port is missing: {scheme}://{host}:8888, or 0 to let the system choose"))
}

fn parse_unix(kind: UnixKind, body: Part<'_>) -> Parsed<Address> {
    let scheme = kind.socket_kind().scheme();
    let name = match body.strip_prefix("@") {
        Some(name) => UnixName::Abstract(parse_sun_path(name, "an abstract name")?.bytes),
        None => UnixName::Path(parse_unix_path(scheme, body)?),
    };
    Ok(Address::Unix { kind, name })
}

fn parse_unix_path(scheme: &str, body: Part<'_>) -> Parsed<PathBuf> {
    let path = match body.strip_prefix("//") {
        None => body,
        Some(path) if path.text.starts_with('/') => path,
        Some(path) => {
            let example = match path.text.starts_with('@') || path.text.is_empty() {
                true => format!("{scheme}:{}", path.text),
                false => format!("{scheme}:{0}, or {scheme}:/{0}", path.text),
            };
            return Err(ValueFault::new(body.at, format!("no host stands here, so no //: {example}")));
        }
    };
    let decoded = parse_sun_path(path, "a path")?;
    if let Some(offset) = decoded.bytes.iter().position(|byte| *byte == 0) {
        return Err(ValueFault::new(decoded.at(offset), "a path cannot contain NUL"));
    }
    Ok(PathBuf::from(OsString::from_vec(decoded.bytes)))
}

fn parse_sun_path<'a>(text: Part<'a>, what: &str) -> Parsed<Decoded<'a>> {
    let decoded = decode(text)?;
    let length = decoded.bytes.len();
    if length == 0 {
        return Err(ValueFault::new(text.at, format!("{what} is missing here")));
    }
    if length > SUN_PATH_BYTES_MAX {
        let message = format!("{what} has at most {SUN_PATH_BYTES_MAX} bytes, this one has {length}");
        return Err(ValueFault::new(decoded.at(SUN_PATH_BYTES_MAX), message));
    }
    Ok(decoded)
}

fn parse_descriptor(body: Part<'_>) -> Parsed<Address> {
    if body.text.is_empty() {
        return Err(ValueFault::new(body.at, "the descriptor's number is missing: fd:3"));
    }
    match parse_number(body, "a descriptor is a number: fd:3")?.map(i32::try_from) {
        Some(Ok(descriptor)) => Ok(Address::Fd(descriptor)),
        _ => Err(ValueFault::new(body.at, format!("out of range: a descriptor is 0 to {}", i32::MAX))),
    }
}

/// The rules are those of FileDescriptorName= in systemd.socket(5).
fn parse_systemd(body: Part<'_>) -> Parsed<Address> {
    let decoded = decode(body)?;
    let wrong = |byte: &u8| !byte.is_ascii() || byte.is_ascii_control() || *byte == b':';
    if let Some(offset) = decoded.bytes.iter().position(wrong) {
        let message = "a socket's name has ASCII characters, without controls and colons";
        return Err(ValueFault::new(decoded.at(offset), message));
    }
    let length = decoded.bytes.len();
    if length > SYSTEMD_NAME_BYTES_MAX {
        let message =
            format!("a socket's name has at most {SYSTEMD_NAME_BYTES_MAX} characters, this one has {length}");
        return Err(ValueFault::new(decoded.at(SYSTEMD_NAME_BYTES_MAX), message));
    }
    let (name, _) = decoded.into_text()?;
    Ok(Address::Systemd(Some(name).filter(|name| !name.is_empty())))
}

/// The number, or `None` where it is larger than any that is of use.
fn parse_number(text: Part<'_>, message: &str) -> Parsed<Option<u64>> {
    match text.text.char_indices().find(|(_, letter)| !letter.is_ascii_digit()) {
        Some((offset, _)) => Err(ValueFault::new(text.at + offset, message)),
        None => Ok(text.text.parse().ok()),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))
}

/// What to say about a text that begins with no scheme.
fn scheme_hint(text: &str) -> String {
    match likely_url(text) {
        Some(url) => format!("the scheme is missing: {url}"),
        None => format!("the scheme is missing; there are {}", SCHEMES.join(", ")),
    }
}

fn unknown_scheme(text: &str, scheme: &str) -> String {
    // localhost:8888 looks like a scheme and its rest.
    if let Some(url) = likely_url(text) {
        return format!("the scheme is missing: {url}");
    }
    let schemes = SCHEMES.iter().filter_map(|form| form.split(':').next());
    match nearest(&scheme.to_ascii_lowercase(), schemes) {
        Some(meant) => format!("unknown scheme {scheme:?}, did you mean {meant:?}?"),
        None => format!("unknown scheme {scheme:?}; there are {}", SCHEMES.join(", ")),
    }
}

/// The URL that was probably meant: one that can be read.
fn likely_url(text: &str) -> Option<String> {
    let mut candidates = vec![format!("tcp://{text}"), format!("tcp://:{text}")];
    if text.starts_with("//") {
        candidates.insert(0, format!("tcp:{text}"));
    }
    if text.starts_with(['/', '.', '@']) {
        candidates.push(format!("unix:{text}"));
    }
    candidates.into_iter().find(|candidate| parse_url(candidate).is_ok())
}

const SUBJECT: &str = "address";
const SCHEMES: &[&str] = &[
    "tcp://HOST:PORT",
    "udp://HOST:PORT",
    "unix:PATH",
    "unix-dgram:PATH",
    "unix-seqpacket:PATH",
    "tls://HOST:PORT",
    "unix+tls:PATH",
    "fd:N",
    "systemd:NAME",
];

/// A resolver takes no longer name.
const HOST_BYTES_MAX: usize = 253;
/// `sun_path` has 108 bytes, one of them for the NUL after a path or before an abstract name.
pub(super) const SUN_PATH_BYTES_MAX: usize = 107;
/// IFNAMSIZ has one more, for the NUL.
const INTERFACE_BYTES_MAX: usize = 15;
const SYSTEMD_NAME_BYTES_MAX: usize = 255;
