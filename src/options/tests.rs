//! Every option: good values, bad values, and the round trip through text.

use std::time::Duration;

use super::guard::{parse_networks, parse_ports};
use super::text::{BACKLOG_MAX, HIGH_WATER_BYTES_MIN, MODE_MAX, TIMEOUT_MIN};
use super::*;
use crate::frame::DELIMITER_BYTES_MAX;
use crate::limits::MESSAGE_BYTES_CEILING;
use crate::values::{DURATION_MAX, edit_distance};
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
fn every_range_is_what_the_parser_takes() {
    // One less or one more, in the digits and the unit of the text.
    let beyond = |text: &str, step: i64| {
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let number = digits.parse::<i64>().unwrap() + step;
        (number >= 0).then(|| format!("{number}{}", &text[digits.len()..]))
    };
    let mut ranges = 0;
    for key in KEYS.iter().filter(|key| !key.kind.min.is_empty()) {
        ranges += 1;
        for (limit, step) in [(key.kind.min, -1), (key.kind.max, 1)] {
            let mut options = Options::default();
            options.set(key.name, limit).unwrap_or_else(|fault| panic!("{}={limit}: {fault}", key.name));
            let other = match (key.kind.name, limit) {
                ("octal", "0777") => Some("1000".to_owned()),
                // 0 turns it off or on.
                ("duration", "1s") => Some("0.5s".to_owned()),
                ("duration", "1ms") => Some("0.9ms".to_owned()),
                (_, "1k") => Some("1023".to_owned()),
                (_, limit) => beyond(limit, step),
            };
            if let Some(other) = other {
                assert!(options.set(key.name, &other).is_err(), "{}={other}", key.name);
            }
        }
    }
    assert_eq!(ranges, 19);
    for key in KEYS {
        assert_eq!(key.kind.min.is_empty(), key.kind.max.is_empty(), "{}", key.name);
        // These take "on" as what it is, and not as a truth value.
        if !matches!(key.name, "keepalive" | "filter" | "chain") {
            let is_flag = Options::default().set(key.name, "on").is_ok();
            assert_eq!(key.kind.name == "bool", is_flag, "{}", key.name);
        }
    }
}

#[test]
fn the_options_of_an_engine_are_what_it_takes() {
    let [threads, backend, spin, watchdog, name, stack, cpus] = ENGINE_KEYS else {
        panic!("{ENGINE_KEYS:?}")
    };
    let engine = crate::Engine::builder().build().unwrap();
    assert_eq!(engine.threads().to_string(), threads.fallback);
    assert_eq!(engine.backend().to_string(), backend.fallback);
    assert_eq!(duration_text(engine.spin()), spin.fallback);
    assert_eq!(duration_text(engine.watchdog()), watchdog.fallback);
    for (text, is_good) in [(threads.kind.min, true), (threads.kind.max, true), ("0", false), ("257", false)]
    {
        assert_eq!(engine.set_threads(text.parse().unwrap()).is_ok(), is_good, "{text}");
    }
    for (text, is_good) in [(spin.kind.min, true), (spin.kind.max, true), ("1.000001s", false)] {
        assert_eq!(engine.set_spin(parse_duration(text).unwrap()).is_ok(), is_good, "{text}");
    }
    for (text, is_good) in [
        (watchdog.kind.min, true),
        (watchdog.kind.max, true),
        ("10ms", true),
        ("9ms", false),
        ("86401s", false),
    ] {
        let patience = parse_duration(text).unwrap();
        assert_eq!(engine.set_watchdog(patience).is_ok(), is_good, "{text}");
    }
    assert_eq!(engine.thread_name(), name.fallback);
    assert_eq!(engine.thread_stack().to_string(), stack.fallback);
    assert_eq!(engine.thread_cpus(), cpus.fallback);
    for (text, is_good) in [(stack.kind.min, true), (stack.kind.max, true), ("127k", false), ("1025m", false)]
    {
        let bytes = parse_size(text).unwrap() as usize;
        assert_eq!(engine.set_thread_stack(bytes).is_ok(), is_good, "{text}");
    }
    for word in backend.value.split('|') {
        assert!(word.parse::<crate::Backend>().is_ok(), "{word}");
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
        ("max_per_peer", "off", "off"),
        ("max_per_peer", "8", "8"),
        ("max_amplification", "auto", "auto"),
        ("max_amplification", "off", "off"),
        ("max_amplification", "12", "12"),
        ("max_amplification_except", "none", "none"),
        ("max_amplification_except", "10.0.0.1/8,fd00::/8", "10.0.0.0/8,fd00::/8"),
        ("guard", "public", "public"),
        ("guard", "off", "off"),
        ("allow", "any", "any"),
        ("allow", "::ffff:10.1.2.3/104,fd00::1/8,10.1.2.3", "10.0.0.0/8,10.1.2.3/32,fd00::/8"),
        ("deny", "none", "none"),
        ("deny", "192.0.2.0/24,192.0.2.1/24", "192.0.2.0/24"),
        ("from_ports", "any", "any"),
        ("from_ports", "auto", "auto"),
        ("from_ports", "53,5000-6000,49152-65535,5500-6001", "53,5000-6001,49152-65535"),
        ("loop_hops", "off", "off"),
        ("loop_hops", "auto", "auto"),
        ("loop_hops", "3:off", "3:off"),
        ("loop_hops", "1:65535", "1:65535"),
        ("loop_mark", "off", "off"),
        ("loop_mark", "200", "200"),
        ("rate", "200/1s", "200/1s"),
        ("rate", "off", "off"),
        ("rate_burst", "auto", "auto"),
        ("rate_burst", "7", "7"),
        ("rate_networks", "32/64", "32/64"),
        ("rate_networks", "0/0", "0/0"),
        ("rate_total", "1/0.5s", "1/500ms"),
        ("allow_uid", "any", "any"),
        ("allow_uid", "0", "0"),
        ("allow_uid", "1000,0,33,1000", "0,33,1000"),
        ("min_rate", "off", "off"),
        ("min_rate", "1K/10s", "1k/10s"),
        ("min_rate", "1/0.5s", "1/500ms"),
        ("idle_timeout", "0", "off"),
        ("idle_timeout", "0s", "off"),
        ("idle_timeout", "off", "off"),
        ("idle_timeout", "1.5s", "1500ms"),
        ("idle_timeout", "0.0015s", "1500us"),
        ("write_timeout", "8760h", "8760h"),
        ("write_timeout", "1.0000015s", "1000001.500us"),
        ("high_water", "1k", "1k"),
        ("proxy", "v1", "v1"),
        ("proxy", "v2", "v2"),
        ("proxy", "any", "any"),
        ("proxy", "off", "off"),
        ("proxy_from", "auto", "auto"),
        ("proxy_from", "10.0.0.1/8,::1", "10.0.0.0/8,::1/128"),
        ("proxy_timeout", "1.5s", "1500ms"),
        ("chain", "uppercase | hex", "uppercase | hex"),
        ("chain", "", ""),
        ("filter", "off", "off"),
        ("filter", "tls:cert=/a,cert='/b c'", "tls:cert=/a,cert=\"/b c\""),
        ("filter", " ./libmine.so#second ", "./libmine.so#second"),
        ("handshake_timeout", "1500ms", "1500ms"),
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
        ("max_per_peer", "0", 0, "1 to 4294967295; off is no limit"),
        ("max_per_peer", "none", 0, "begins with a digit"),
        ("max_amplification", "0", 0, "1 to 4294967295; or auto, off"),
        ("max_amplification", "none", 0, "begins with a digit"),
        ("max_amplification_except", "off", 0, "or none"),
        ("guard", "on", 0, "local, public, off"),
        ("allow", "10.0.0.0/33", 9, "0 to 32"),
        ("allow", "10.0.0.0/8,none", 11, "a network is expected"),
        ("allow", "", 0, "a network is expected"),
        ("deny", "any", 0, "or none"),
        ("deny", "fd00::/129", 7, "0 to 128"),
        ("from_ports", "1024-", 5, "a port is expected"),
        ("from_ports", "9-8", 0, "the range is empty"),
        ("from_ports", "1,65536", 2, "0 to 65535"),
        ("loop_hops", "2", 1, "two numbers"),
        ("loop_hops", "0:1", 0, "1 to 65535"),
        ("loop_hops", "2:x", 2, "digit"),
        ("loop_mark", "185", 0, "186 to 254"),
        ("loop_mark", "255", 0, "or auto, or off"),
        ("rate", "200", 3, "COUNT/DURATION"),
        ("rate", "0/1s", 0, "1 to 1000000000"),
        ("rate", "1/1us", 2, "out of range"),
        ("rate_burst", "0", 0, "1 to 4294967295"),
        ("rate_networks", "24", 2, "two lengths"),
        ("rate_networks", "24/129", 3, "0 to 128"),
        ("allow_uid", "", 0, "a user's number is expected"),
        ("allow_uid", "root", 0, "a user's number is expected"),
        ("allow_uid", "0,1000,x", 7, "a user's number is expected"),
        ("allow_uid", "0,", 2, "missing"),
        ("allow_uid", "4294967295", 0, "0 to 4294967294"),
        ("min_rate", "1k", 2, "SIZE/DURATION"),
        ("min_rate", "0/1s", 0, "out of range"),
        ("min_rate", "1k/0", 3, "out of range"),
        ("min_rate", "1k/10", 5, "unit is missing"),
        ("rcvbuf", "0", 0, "1 to 2147483647 bytes"),
        ("rcvbuf", "2g", 0, "out of range"),
        ("rcvbuf", "64kb", 2, "k, m or g"),
        ("rcvbuf", "1.5k", 1, "whole number"),
        ("v6only", "2", 0, "0 or 1"),
        ("mode", "", 0, "octal"),
        ("mode", "0680", 2, "0 to 7"),
        ("mode", "1000", 0, "0777"),
        ("mode", "77777777777777777777777777777777777777777777", 0, "0777"),
        ("frame", "line", 0, "did you mean \"lines\"?"),
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
        ("proxy", "2", 0, "off, v1, v2 or any"),
        ("proxy", "", 0, "off, v1, v2 or any"),
        ("proxy_from", "any", 0, "or auto"),
        ("proxy_timeout", "0", 0, "1ms to 8760h"),
        ("chain", "upper | ", 8, "missing"),
        ("filter", "", 0, "a filter is missing"),
        ("filter", "tls | tls", 4, "one name"),
        ("filter", "tls:cert", 8, "value is missing"),
        ("handshake_timeout", "0", 0, "1ms"),
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
        ("bcklog=1", 0, "did you mean \"backlog\"?"),
        ("idle-timeout=1s", 0, "did you mean \"idle_timeout\"?"),
        ("high=1", 0, "did you mean \"high_water\"?"),
        ("allow_ids=7", 0, "unknown option \"allow_ids\", did you mean \"allow_uid\"?"),
        ("forbid=1", 0, "unknown option \"forbid\"; there are backlog"),
        ("socks=1", 0, "unknown option \"socks\"; there are backlog"),
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
    assert!(parse_size("18446744073709551616").unwrap_err().message.contains("0 to 18446744073709551615"));
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
        prop_oneof![
            Just(MaxAmplification::Auto),
            Just(MaxAmplification::Off),
            (1..=u32::MAX).prop_map(MaxAmplification::Times),
        ],
        proptest::option::of(1..=u32::MAX),
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
        timeouts.clone().prop_map(Duration::from_nanos),
        proptest::option::of("[a-z]{1,8}( [|] [a-z]{1,8}:k=[0-9]{1,3}){0,3}"),
    );
    let filters = (proptest::option::of("[a-z]{1,8}:k=[0-9]{1,3}(,k=[0-9]{1,3}){0,3}"), timeouts.clone());
    let guards = (
        proptest::option::of(proptest::collection::btree_set(0..u32::MAX, 1..5)),
        proptest::option::of((1..=u64::MAX, timeouts.clone())),
        networks("none"),
    );
    let datagrams = (
        prop_oneof![Just(GuardLevel::Local), Just(GuardLevel::Public), Just(GuardLevel::Off)],
        networks("any"),
        networks("none"),
        guarded_values(proptest::collection::vec((any::<u16>(), any::<u16>()), 1..4).prop_map(|ranges| {
            let text: Vec<_> = ranges.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
            parse_ports(&text.join(",")).unwrap()
        })),
        guarded_values(
            (1..=65_535_u32, proptest::option::of(1..=65_535_u32))
                .prop_map(|(service, client)| LoopHops { service, client }),
        ),
        guarded_values(186..=254_u8),
        guarded_values(rates()),
        proptest::option::of(1..=u32::MAX),
        (0..=32_u8, 0..=128_u8).prop_map(|(v4_bits, v6_bits)| RateNetworks { v4_bits, v6_bits }),
        guarded_values(rates()),
    );
    let proxies = (
        proptest::option::of(prop_oneof![
            Just(ProxyVersions::V1),
            Just(ProxyVersions::V2),
            Just(ProxyVersions::Any)
        ]),
        networks("auto"),
        timeouts.prop_map(Duration::from_nanos),
    );
    let all = (numbers, others, guards, datagrams, proxies, filters);
    all.prop_map(|(numbers, others, guards, datagrams, proxies, filters)| Options {
        filter: filters.0,
        handshake_timeout: Duration::from_nanos(filters.1),
        proxy: proxies.0,
        proxy_from: proxies.1,
        proxy_timeout: proxies.2,
        guard: datagrams.0,
        allow: datagrams.1,
        deny: datagrams.2.unwrap_or_default(),
        from_ports: datagrams.3,
        loop_hops: datagrams.4,
        loop_mark: datagrams.5,
        rate: datagrams.6,
        rate_burst: datagrams.7,
        rate_networks: datagrams.8,
        rate_total: datagrams.9,
        backlog: numbers.0,
        rcvbuf_bytes: numbers.1,
        sndbuf_bytes: numbers.2,
        mode: numbers.3,
        max_message_bytes: numbers.4,
        max_connections: numbers.5,
        max_amplification: numbers.6,
        max_amplification_except: guards.2.unwrap_or_default(),
        max_per_peer: numbers.7,
        high_water_bytes: numbers.8,
        allow_uid: guards.0.map(|users| users.into_iter().collect()),
        min_rate: guards.1.map(|(bytes, nanos)| MinRate { bytes, within: Duration::from_nanos(nanos) }),
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

fn guarded_values<T: Clone + std::fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = Guarded<T>> {
    prop_oneof![Just(Guarded::Auto), Just(Guarded::Off), values.prop_map(Guarded::Set)]
}

fn rates() -> impl Strategy<Value = Rate> {
    let nanos = Duration::from_millis(1).as_nanos() as u64..=DURATION_MAX.as_nanos() as u64;
    (1..=1_000_000_000_u32, nanos)
        .prop_map(|(count, nanos)| Rate { count, within: Duration::from_nanos(nanos) })
}

fn networks(none: &'static str) -> impl Strategy<Value = Option<Vec<Network>>> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| std::net::IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| std::net::IpAddr::V6(bits.into())),
    ];
    let network = (address, 0..=128_u8).prop_map(|(address, bits)| Network::of(address, bits).to_string());
    proptest::option::of(proptest::collection::vec(network, 1..5))
        .prop_map(move |texts| texts.and_then(|texts| parse_networks(&texts.join(","), none).unwrap()))
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
