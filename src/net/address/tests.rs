//! Good URLs, bad ones with the character that is wrong, and the round trip through text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::parse::SUN_PATH_BYTES_MAX;
use super::*;
use crate::options::{Frame, KEYS};
use proptest::prelude::*;

fn endpoint(host: Host, port: u16) -> Endpoint {
    Endpoint { host, port }
}

fn v6(text: &str, scope: u32) -> Host {
    Host::V6(text.parse().unwrap(), NonZeroU32::new(scope).map(Zone::Index))
}

fn at(text: &str, interface: &str) -> Host {
    Host::V6(text.parse().unwrap(), Some(Zone::Name(interface.to_owned())))
}

fn path(kind: UnixKind, path: &[u8]) -> Address {
    Address::Unix { kind, name: UnixName::Path(OsString::from_vec(path.to_vec()).into()) }
}

fn unix(text: &str) -> Address {
    path(UnixKind::Stream, text.as_bytes())
}

fn named(kind: UnixKind, name: &[u8]) -> Address {
    Address::Unix { kind, name: UnixName::Abstract(name.to_vec()) }
}

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

#[test]
fn good_addresses() {
    let long = "x".repeat(107);
    let host = format!("{}a", "a.".repeat(126));
    let table = [
        ("tcp://127.0.0.1:8888", Address::Tcp(endpoint(Host::V4(Ipv4Addr::LOCALHOST), 8888)), ""),
        ("tcp://:8888", Address::Tcp(endpoint(Host::Any, 8888)), ""),
        ("udp://[::1]:0", Address::Udp(endpoint(v6("::1", 0), 0)), ""),
        ("TCP://:65535", Address::Tcp(endpoint(Host::Any, 65535)), "tcp://:65535"),
        ("tcp://:00080", Address::Tcp(endpoint(Host::Any, 80)), "tcp://:80"),
        ("tcp://[FE80::1%2]:1", Address::Tcp(endpoint(v6("fe80::1", 2), 1)), "tcp://[fe80::1%252]:1"),
        ("tcp://[fe80::1%252]:1", Address::Tcp(endpoint(v6("fe80::1", 2), 1)), ""),
        ("tcp://[fe80::1%25]:1", Address::Tcp(endpoint(v6("fe80::1", 25), 1)), "tcp://[fe80::1%2525]:1"),
        (
            "tcp://[fe80::1%eth0]:1",
            Address::Tcp(endpoint(at("fe80::1", "eth0"), 1)),
            "tcp://[fe80::1%25eth0]:1",
        ),
        ("tcp://[fe80::1%25eth0]:1", Address::Tcp(endpoint(at("fe80::1", "eth0"), 1)), ""),
        ("udp://[fe80::1%25br-1.5_a]:1", Address::Udp(endpoint(at("fe80::1", "br-1.5_a"), 1)), ""),
        (
            "tcp://[fe80::1%25a%25b%3f]:1",
            Address::Tcp(endpoint(at("fe80::1", "a%b?"), 1)),
            "tcp://[fe80::1%25a%25b%3F]:1",
        ),
        ("tcp://[fe80::1%25x]:1", Address::Tcp(endpoint(at("fe80::1", "x"), 1)), ""),
        ("udp://[ff02::1%25lo]:1", Address::Udp(endpoint(at("ff02::1", "lo"), 1)), ""),
        ("tcp://[::1%25lo]:1", Address::Tcp(endpoint(at("::1", "lo"), 1)), ""),
        ("udp://[::ffff:1.2.3.4]:5", Address::Udp(endpoint(v6("::ffff:1.2.3.4", 0), 5)), ""),
        ("tcp://localhost:1", Address::Tcp(endpoint(name("localhost"), 1)), ""),
        ("tcp://a_b-c.example.:1", Address::Tcp(endpoint(name("a_b-c.example."), 1)), ""),
        ("tcp://1.2.3.4.example:1", Address::Tcp(endpoint(name("1.2.3.4.example"), 1)), ""),
        (&format!("tcp://{host}:1"), Address::Tcp(endpoint(name(&host), 1)), ""),
        ("unix:/run/e.sock", unix("/run/e.sock"), ""),
        ("unix:e.sock", unix("e.sock"), ""),
        ("unix:///run/e.sock", unix("/run/e.sock"), "unix:/run/e.sock"),
        ("unix:////run", unix("//run"), ""),
        ("unix:/with blank:&=é", unix("/with blank:&=é"), ""),
        ("unix:%40x", unix("@x"), ""),
        ("unix:a%3f%25%23%0a%ff", path(UnixKind::Stream, b"a?%#\n\xff"), "unix:a%3F%25%23%0A%FF"),
        ("unix:%c2%85", unix("\u{85}"), "unix:%C2%85"),
        (&format!("unix:{long}"), unix(&long), ""),
        ("unix-dgram:/d", path(UnixKind::Datagram, b"/d"), ""),
        ("unix-seqpacket:@s", named(UnixKind::Seqpacket, b"s"), ""),
        ("unix:@name", named(UnixKind::Stream, b"name"), ""),
        ("unix:@@/a%00%FE", named(UnixKind::Stream, b"@/a\0\xfe"), ""),
        (&format!("unix:@{long}"), named(UnixKind::Stream, long.as_bytes()), ""),
        ("fd:0", Address::Fd(0), ""),
        ("fd:2147483647", Address::Fd(i32::MAX), ""),
        ("systemd:", Address::Systemd(None), ""),
        ("systemd:echo.socket", Address::Systemd(Some("echo.socket".to_owned())), ""),
        ("systemd:a%3F b", Address::Systemd(Some("a? b".to_owned())), ""),
    ];
    for (text, address, canonical) in table {
        let read: Address = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, address, "{text}");
        assert_eq!(read.to_string(), if canonical.is_empty() { text } else { canonical });
    }
}

#[test]
fn bad_addresses() {
    let long = "x".repeat(108);
    let table = [
        ("", 0, "the scheme is missing; there are tcp://"),
        ("what", 0, "the scheme is missing; there are tcp://"),
        ("127.0.0.1:8888", 0, "missing: tcp://127.0.0.1:8888"),
        ("localhost:8888", 0, "missing: tcp://localhost:8888"),
        (":8888", 0, "missing: tcp://:8888"),
        ("8888", 0, "missing: tcp://:8888"),
        ("[::1]:80", 0, "missing: tcp://[::1]:80"),
        ("//[::1]:80", 0, "missing: tcp://[::1]:80"),
        ("/run/e.sock", 0, "missing: unix:/run/e.sock"),
        ("./e.sock?mode=0600", 0, "missing: unix:./e.sock?mode=0600"),
        ("@name", 0, "missing: unix:@name"),
        ("tpc://127.0.0.1:1", 0, "did you mean \"tcp\"?"),
        ("unix-datagram:/x", 0, "unknown scheme"),
        ("unix-dgrm:/x", 0, "did you mean \"unix-dgram\"?"),
        ("https://example.org", 0, "unknown scheme \"https\"; there are tcp://"),
        ("tcp:127.0.0.1:1", 4, "// is missing"),
        ("tcp:/127.0.0.1:1", 4, "// is missing"),
        ("tcp://", 6, "host and the port are missing"),
        ("tcp://127.0.0.1", 15, "the port is missing: tcp://127.0.0.1:8888, or 0"),
        ("tcp://127.0.0.1:", 16, "the port is missing"),
        ("tcp://127.0.0.1?backlog=1", 15, "the port is missing"),
        ("tcp://[::1]", 11, "the port is missing: tcp://[::1]:8888"),
        ("tcp://127.0.0.1:65536", 16, "0 to 65535"),
        ("tcp://127.0.0.1:99999999999999999999999", 16, "0 to 65535"),
        ("tcp://127.0.0.1:8x", 17, "digits only"),
        ("tcp://127.0.0.1:-1", 16, "digits only"),
        ("tcp://127.0.0.1:8888/", 20, "path"),
        ("tcp://127.0.0.1:8888/x?backlog=1", 20, "path"),
        ("tcp://me:word@127.0.0.1:8888", 6, "user's name"),
        ("tcp://127.0.0.1:8888#x", 20, "%23"),
        ("unix:/a#b", 7, "%23"),
        ("tcp://::1:8888", 6, "tcp://[::1]:8888"),
        ("udp://fe80::1", 6, "udp://[fe80::1]:PORT"),
        ("udp://fe80::12345", 10, "one colon only"),
        ("tcp://::", 6, "tcp://[::]:PORT"),
        ("tcp://a:b:1", 7, "one colon only"),
        ("tcp://[::1", 10, "closing ]"),
        ("tcp://[::1]8888", 11, "a colon and the port"),
        ("tcp://[::g]:1", 7, "not an IPv6 address"),
        ("tcp://[]:1", 7, "not an IPv6 address"),
        ("tcp://[1.2.3.4]:1", 7, "without brackets: tcp://1.2.3.4:PORT"),
        ("tcp://[fe80::1%]:1", 15, "by name or number"),
        ("tcp://[fe80::1%0]:1", 15, "by name or number"),
        ("tcp://[fe80::1%4294967296]:1", 15, "by name or number"),
        ("tcp://[fe80::1%e th]:1", 16, "by name or number"),
        ("tcp://[fe80::1%25e%2fth]:1", 18, "by name or number"),
        ("tcp://[fe80::1%a:b]:1", 16, "by name or number"),
        ("tcp://[fe80::1%25sixteen-letters1]:1", 32, "at most 15"),
        ("tcp://[fe80::1]:1", 14, "needs its network interface: [fe80::1%eth0]"),
        ("udp://[febf::1]:1", 14, "needs its network interface"),
        ("udp://[ff02::1]:1", 14, "needs its network interface"),
        ("tcp://*:1", 6, "tcp://:PORT"),
        ("tcp://a b:1", 7, "a host has"),
        ("tcp://aé:1", 7, "a host has"),
        ("tcp://a%41:1", 7, "a host has"),
        ("tcp://.a:1", 6, "before this point"),
        ("tcp://a..b:1", 8, "before this point"),
        ("tcp://256.1.1.1:1", 6, "not an IPv4 address"),
        ("tcp://127.1:1", 6, "not an IPv4 address"),
        ("tcp://010.0.0.1:1", 6, "not an IPv4 address"),
        ("tcp://0x7f.0x1:1", 6, "not an IPv4 address"),
        ("tcp://1.2.3.4.:1", 6, "not an IPv4 address"),
        (&format!("tcp://{}:1", "a".repeat(254)), 259, "at most 253 characters, this one has 254"),
        ("unix:", 5, "a path is missing"),
        ("unix:?mode=0600", 5, "a path is missing"),
        ("unix://", 5, "no //: unix:"),
        ("unix://rel/a", 5, "unix:rel/a, or unix:/rel/a"),
        ("unix-dgram://@x", 11, "unix-dgram:@x"),
        ("unix:/a%00b", 7, "NUL"),
        ("unix:/a\0b", 7, "%00"),
        ("unix:/a\u{85}b", 7, "%C2%85"),
        ("unix:/a%4", 7, "two hexadecimal digits"),
        ("unix:/a%é0", 7, "two hexadecimal digits"),
        ("unix:/a%", 7, "two hexadecimal digits"),
        (&format!("unix:{long}"), 112, "at most 107 bytes, this one has 108"),
        (&format!("unix:%41{long}"), 114, "at most 107 bytes, this one has 109"),
        (&format!("unix:x{}", "é".repeat(60)), 112, "at most 107 bytes, this one has 121"),
        (&format!("unix:{}", "é".repeat(60)), 111, "at most 107 bytes, this one has 120"),
        (&format!("unix:@{long}"), 113, "an abstract name has at most 107"),
        ("unix:@", 6, "an abstract name is missing"),
        ("fd:", 3, "missing"),
        ("fd://3", 3, "fd:3"),
        ("fd:-1", 3, "fd:3"),
        ("fd:2147483648", 3, "0 to 2147483647"),
        ("systemd:a:b", 9, "colons"),
        ("systemd:é", 8, "ASCII"),
        ("systemd:a%0ab", 9, "controls"),
        (&format!("systemd:{}", "a".repeat(256)), 263, "at most 255"),
    ];
    for (text, at, message) in table {
        let error = Address::parse(text).expect_err(text);
        assert_eq!((error.subject, error.text.as_str(), error.at), ("address", text, at), "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    let error = "tcp://:1?backlog=1".parse::<Address>().unwrap_err();
    assert_eq!((error.at, error.message.as_str()), (9, "no options are taken here"));
}

#[test]
fn queries_apply_over_defaults() {
    let mut defaults = Options::default();
    defaults.set("nodelay", "0").unwrap();
    defaults.set("idle_timeout", "5s").unwrap();
    let url = "tcp://:8888?backlog=16&frame=lines&chain=delay:time=1ms,jitter=2ms+|+hex&idle_timeout=30s";
    let url = &url.replace('+', "%20");
    let listen = Listen::parse(url, &defaults).unwrap();
    assert_eq!(listen.options.backlog, 16);
    assert_eq!(listen.options.frame, Frame::Lines);
    assert_eq!(listen.options.chain.as_deref(), Some("delay:time=1ms,jitter=2ms | hex"));
    assert_eq!(listen.options.idle_timeout, Some(Duration::from_secs(30)));
    assert!(!listen.options.nodelay);

    let plus = Listen::parse("udp://:1?chain=a:k=1+2%26%3D%C3%A9", &defaults).unwrap();
    assert_eq!(plus.options.chain.as_deref(), Some("a:k=1+2&=é"));
    // Defaults for other kinds of socket are let be.
    assert_eq!(plus.options.idle_timeout, defaults.idle_timeout);
}

/// What is no option of a listener is one of the filter, and may stand there several times.
#[test]
fn options_of_tls_addresses() {
    let filter = |url: &str, defaults: &Options| Listen::parse(url, defaults).unwrap().options.filter;
    let defaults = Options::default();
    let table = [
        ("tls://:1", "tls"),
        ("tls://:1?cert=/a.pem&idle_timeout=1s&key=/a%20b", "tls:cert=/a.pem,key=\"/a b\""),
        ("unix+tls:/x?cert=a&cert=b", "tls:cert=a,cert=b"),
    ];
    for (url, expected) in table {
        assert_eq!(filter(url, &defaults).as_deref(), Some(expected), "{url}");
    }
    let mut all = Options::default();
    all.set("filter", "tls:cert=/all").unwrap();
    assert_eq!(filter("tls://:1", &all).as_deref(), Some("tls:cert=/all"));
    assert_eq!(filter("tls://:1?cert=/own", &all).as_deref(), Some("tls:cert=/own"));
    assert_eq!(filter("tcp://:1", &all).as_deref(), Some("tls:cert=/all"));
    all.set("filter", "other").unwrap();
    assert_eq!(filter("tls://:1", &all).as_deref(), Some("tls"));

    let tls: Address = "tls://127.0.0.1:1".parse().unwrap();
    assert_eq!(
        (tls.to_string().as_str(), tls.stream().to_string().as_str()),
        ("tls://127.0.0.1:1", "tcp://127.0.0.1:1")
    );
    assert_eq!(tls.kind(), AddressKind::Tcp);
}

#[test]
fn bad_queries() {
    let table = [
        ("tcp://:1?", 9, "option is missing"),
        ("tcp://:1?backlog=1&", 19, "option is missing"),
        ("tcp://:1?backlog=1&&nodelay=1", 19, "option is missing"),
        ("tcp://:1?backlog", 16, "key=value"),
        ("tcp://:1?backlog&nodelay=1", 16, "key=value"),
        ("tcp://:1?=1", 9, "unknown option"),
        ("tcp://:1?bcklog=1", 9, "did you mean \"backlog\"?"),
        ("tcp://:1?nodelay=1&allow_ids=1", 19, "did you mean \"allow_uid\"?"),
        ("tcp://:1?backlog=1&backlog=2", 19, "twice"),
        ("tcp://:1?backlog=1&%62acklog=2", 19, "twice"),
        ("tcp://:1?backlog=1x", 18, "digits only"),
        ("tcp://:1?backlog=%31%78", 20, "digits only"),
        ("tcp://:1?backlog=1%x", 18, "two hexadecimal digits"),
        ("tcp://:1?backlog=%FF", 17, "UTF-8"),
        ("tcp://:1?idle_timeout=30", 24, "unit is missing"),
        ("tcp://:1?idle_timeout=%330&backlog=1", 26, "unit is missing"),
        ("tcp://:1?chain=a%20|%20B", 23, "a-z"),
        ("tcp://:1?chain=a:k=%22%2578%22,k=1", 31, "twice"),
        ("tcp://:1?chain=a:k=%27é%27%27", 27, "unexpected"),
        ("tcp://1.2.3.4:1?v6only=1", 16, "IPv4"),
        ("tcp://:1?mode=0600", 9, "mode means nothing for tcp; it is for unix, unix-dgram, unix-seqpacket"),
        ("udp://:1?rcvbuf=1m&nodelay=1", 19, "nodelay means nothing for udp"),
        ("udp://:1?keepalive=1", 9, "udp"),
        ("udp://:1?backlog=1", 9, "udp"),
        ("udp://:1?frame=lines", 9, "frame means nothing for udp; it is for tcp, unix, inherited"),
        ("unix:/a?v6only=1", 8, "unix"),
        ("unix:/a?nodelay=1", 8, "unix"),
        ("unix:@a?mode=0600", 8, "abstract"),
        ("unix-dgram:/a?backlog=1", 14, "unix-dgram"),
        ("unix-seqpacket:/a?frame=raw", 18, "unix-seqpacket"),
        ("fd:3?mode=0600", 5, "a socket handed over"),
        ("systemd:?v6only=1", 9, "a socket handed over"),
        ("tls://:1?backlog=1&backlog=2", 19, "twice"),
        ("tls://:1?filter=off", 9, "has a filter"),
        ("tls://:1?mode=0600", 9, "mode means nothing for tls"),
        ("unix+tls:@a?mode=0600", 12, "abstract"),
        ("tcp://:1?cert=/a", 9, "unknown option"),
    ];
    for (text, at, message) in table {
        let error = Listen::parse(text, &Options::default()).expect_err(text);
        assert_eq!((error.subject, error.text.as_str(), error.at), ("address", text, at), "{error}");
        assert!(error.message.contains(message), "{error}");
    }
}

fn addresses() -> impl Strategy<Value = Address> {
    let hosts = prop_oneof![
        Just(Host::Any),
        any::<[u8; 4]>().prop_map(|octets| Host::V4(octets.into())),
        (any::<[u16; 8]>(), zones()).prop_map(|(segments, zone)| Host::V6(segments.into(), Some(zone))),
        any::<[u16; 7]>()
            .prop_map(|[a, b, c, d, e, f, g]| { Host::V6(Ipv6Addr::new(0x2001, a, b, c, d, e, f, g), None) }),
        "[a-zA-Z0-9_-]{1,9}([.][a-z][a-z0-9-]{0,9}){1,3}".prop_map(Host::Name),
    ];
    let endpoints = (hosts, any::<u16>()).prop_map(|(host, port)| Endpoint { host, port });
    let kinds = prop_oneof![Just(UnixKind::Stream), Just(UnixKind::Datagram), Just(UnixKind::Seqpacket)];
    let paths = prop_oneof![
        proptest::collection::vec(1u8.., 1..=SUN_PATH_BYTES_MAX),
        "[/@?%#. é\u{85}]{1,9}".prop_map(String::into_bytes),
    ];
    let names = prop_oneof![
        paths.prop_map(|path| UnixName::Path(OsString::from_vec(path).into())),
        proptest::collection::vec(any::<u8>(), 1..=SUN_PATH_BYTES_MAX).prop_map(UnixName::Abstract),
    ];
    let unnamed = (paths_of_streams(), any::<u16>());
    let tls = unnamed.prop_map(|(name, port)| match name {
        Some(name) => Address::Tls(Box::new(Address::Unix { kind: UnixKind::Stream, name })),
        None => Address::Tls(Box::new(Address::Tcp(Endpoint { host: Host::Any, port }))),
    });
    prop_oneof![
        endpoints.clone().prop_map(Address::Tcp),
        endpoints.prop_map(Address::Udp),
        (kinds, names).prop_map(|(kind, name)| Address::Unix { kind, name }),
        tls,
        (0..=i32::MAX).prop_map(Address::Fd),
        proptest::option::of("[ -9;-~]{1,20}").prop_map(Address::Systemd),
    ]
}

fn paths_of_streams() -> impl Strategy<Value = Option<UnixName>> {
    proptest::option::of("[a-z/]{1,9}".prop_map(|path| UnixName::Path(path.into())))
}

fn zones() -> impl Strategy<Value = Zone> {
    let names = "[a-zA-Z!-.;-~][!-.0-9;-~]{0,14}"
        .prop_filter("a number", |name| name.bytes().any(|byte| !byte.is_ascii_digit()));
    prop_oneof![any::<NonZeroU32>().prop_map(Zone::Index), names.prop_map(Zone::Name)]
}

fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("tcp:"),
        Just("udp:"),
        Just("unix:"),
        Just("fd:"),
        Just("systemd:"),
        Just("//"),
        Just("/"),
        Just(":"),
        Just("[::1]"),
        Just("["),
        Just("]"),
        Just("%"),
        Just("%2"),
        Just("%25"),
        Just("%c3"),
        Just("%a9"),
        Just("127.0.0.1"),
        Just("8888"),
        Just("@"),
        Just("?"),
        Just("&"),
        Just("="),
        Just("#"),
        Just("é"),
        Just("chain"),
        Just("backlog"),
        Just("frame"),
        Just("a|b:k='"),
        Just("\u{85}"),
        Just("."),
    ];
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()),
        (addresses(), 0..KEYS.len(), any::<String>())
            .prop_map(|(address, row, value)| format!("{address}?{}={value}", KEYS[row].name)),
    ]
}

proptest! {
    #[test]
    fn the_canonical_url_reads_the_same(address in addresses()) {
        let text = address.to_string();
        prop_assert_eq!(text.parse::<Address>(), Ok(address), "{}", text);
    }

    #[test]
    fn no_text_panics(text in texts()) {
        match Listen::parse(&text, &Options::default()) {
            Ok(listen) => {
                let canonical = listen.address.to_string();
                prop_assert_eq!(canonical.parse::<Address>(), Ok(listen.address), "{}", canonical);
            }
            Err(error) => prop_assert!(text.is_char_boundary(error.at), "{}", error),
        }
    }

    #[test]
    fn a_fault_in_a_value_is_found_however_it_is_spelled(
        digits in "[0-9]{1,5}",
        spelled in proptest::collection::vec(any::<bool>(), 6),
    ) {
        let mut url = "tcp://:1?backlog=".to_owned();
        let mut at = 0;
        for (letter, escaped) in format!("{digits}x").chars().zip(spelled) {
            at = url.len();
            url += &if escaped { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() };
        }
        prop_assert_eq!(Listen::parse(&url, &Options::default()).unwrap_err().at, at, "{}", url);
    }
}
