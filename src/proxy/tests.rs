use std::collections::HashSet;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::header::Header;
use super::*;
use crate::peer::Peer;

/// What HAProxy 2.6.12 sends with `send-proxy`, with `send-proxy-v2 proxy-v2-options crc32c,unique-id`, and with that where
/// its own client came over a unix socket.
const HAPROXY_V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 45108 18081\r\n";
const HAPROXY_V2: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00'\x7f\x00\x00\x01\x7f\x00\x00\x01\xeb\xdaF\xa2\
    \x03\x00\x04\xd5\\nm\x05\x00\x11127.0.0.1-60378-1";
const HAPROXY_LOCAL: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n \x00\x00\x07\x03\x00\x04\xa9\xb8~\x8f";

fn header(bytes: &[u8]) -> Header<'_> {
    parse(bytes, ProxyVersions::Any).unwrap().unwrap()
}

fn facts(bytes: &[u8]) -> Vec<String> {
    let facts = header(bytes).facts();
    facts.strip_suffix("\0\0").unwrap().split('\0').map(str::to_owned).collect()
}

fn source(bytes: &[u8]) -> Option<String> {
    header(bytes).addresses.map(|addresses| addresses.source().to_string())
}

fn v2(command: u8, protocol: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, protocol]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xc4, 0x88, 0x01, 0xbb];

#[test]
fn what_haproxy_sends() {
    assert_eq!(source(HAPROXY_V1).as_deref(), Some("127.0.0.1:45108"));
    let expected = ["version=1", "command=proxy", "protocol=tcp4", "destination=127.0.0.1:18081"];
    assert_eq!(facts(HAPROXY_V1), expected);
    assert_eq!(source(HAPROXY_V2).as_deref(), Some("127.0.0.1:60378"));
    let expected = [
        "version=2",
        "command=proxy",
        "protocol=tcp4",
        "destination=127.0.0.1:18082",
        "crc32c=ok",
        "unique_id=127.0.0.1-60378-1",
    ];
    assert_eq!(facts(HAPROXY_V2), expected);
    assert_eq!(source(HAPROXY_LOCAL), None);
    assert_eq!(facts(HAPROXY_LOCAL), ["version=2", "command=local"]);
    // Without its kind, at 28, a checksum is none.
    for place in (12..HAPROXY_V2.len()).filter(|place| *place != 28) {
        let mut bytes = HAPROXY_V2.to_vec();
        bytes[place] ^= 0x40;
        assert_ne!(parse(&bytes, ProxyVersions::Any).map(|found| found.is_some()), Ok(true), "{place}");
    }
}

/// Where no address is told, what stands in its place does not count; a wrong checksum does.
#[test]
fn what_is_skipped() {
    let mut other = HAPROXY_LOCAL.to_vec();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(parse(&other, ProxyVersions::Any), Err(Fault::Checksum));
    for (command, protocol, address_bytes) in
        [(0, 0x00, 0), (0, 0x11, 12), (0, 0x21, 36), (0, 0x77, 0), (1, 0x00, 0)]
    {
        for body in [V4, &V4[..3], &[0xff; 40], b""] {
            let bytes = v2(command, protocol, &[body]);
            let found = header(&bytes);
            assert_eq!((found.addresses, found.len), (None, bytes.len()), "{command} {protocol:#x} {body:?}");
        }
        // Behind an address as long as the protocol's.
        let wrong = [[V4, &[0; 24]].concat()[..address_bytes].to_vec(), tlv(3, &[0; 4])].concat();
        let bytes = v2(command, protocol, &[&wrong]);
        assert_eq!(parse(&bytes, ProxyVersions::Any), Err(Fault::Checksum), "{command} {protocol:#x}");
    }
}

#[test]
fn lines() {
    for (line, expected) in [
        (&b"PROXY UNKNOWN\r\n"[..], None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
        (b"PROXY TCP4 1.2.3.4 0.0.0.0 0 0\r\n", Some("1.2.3.4:0")),
        (b"PROXY TCP6 2001:db8::1 ::1 50000 443\r\n", Some("[2001:db8::1]:50000")),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50000 443\r\n", Some("192.0.2.7:50000")),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
    ] {
        let more = [line, b"behind it\r\n"].concat();
        assert_eq!(source(&more).as_deref(), expected);
        assert_eq!(header(&more).len, line.len());
        assert_eq!(parse(line, ProxyVersions::V1), parse(line, ProxyVersions::Any));
        assert_eq!(parse(line, ProxyVersions::V2), Err(Fault::NoVersion2));
    }
}

#[test]
fn binary_headers() {
    let mut v6 = [0x20, 0x01, 0x0d, 0xb8].to_vec();
    v6.extend([0; 11]);
    v6.extend([1; 17]);
    v6.extend([0xc4, 0x88, 0x01, 0xbb]);
    let path = |name: &[u8]| {
        let mut path = name.to_vec();
        path.resize(108, 0);
        path
    };
    let (named, hidden) = (path(b"/run/client.sock"), path(b"\0hid\0den"));
    for (protocol, parts, expected) in [
        (0x00, &[][..], None),
        (0x11, &[V4], Some(("192.0.2.7:50312", "tcp4"))),
        (0x12, &[V4], Some(("192.0.2.7:50312", "udp4"))),
        (0x21, &[&v6], Some(("[2001:db8::1]:50312", "tcp6"))),
        (0x22, &[&v6], Some(("[2001:db8::1]:50312", "udp6"))),
        (0x31, &[&named, &path(b"")], Some(("unix:/run/client.sock", "unix"))),
        (0x31, &[&[b'x'; 216]], Some((concat_x(), "unix"))),
        (0x32, &[&hidden, &named], Some(("unix:@hid\\x00den", "unix-dgram"))),
        (0x32, &[&path(b""), &named], Some(("unix:", "unix-dgram"))),
    ] {
        let bytes = v2(1, protocol, &[&parts.concat(), &tlv(4, b"filling")]);
        let more = [&bytes, b"behind it".as_slice()].concat();
        let found = header(&more);
        assert_eq!(found.len, bytes.len());
        let found = found.addresses.map(|found| (found.source().to_string(), found.protocol));
        assert_eq!(found, expected.map(|(source, protocol)| (source.to_owned(), protocol)));
        // What a proxy says for itself is about nobody, whatever it is.
        assert_eq!(source(&v2(0, protocol, parts)), None);
        assert_eq!(parse(&bytes, ProxyVersions::V2), parse(&bytes, ProxyVersions::Any));
        assert_eq!(parse(&bytes, ProxyVersions::V1), Err(Fault::NoVersion1));
    }
    assert_eq!(header(&v2(0, 0xff, &[&[1, 2, 3]])).len, 19);
}

fn concat_x() -> &'static str {
    concat!(
        "unix:",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    )
}

#[test]
fn tlvs_are_facts() {
    let ssl = [
        &[7, 0, 0, 0, 19][..],
        &tlv(0x21, b"TLSv1.3"),
        &tlv(0x22, "Gr\u{f6}\u{df}e".as_bytes()),
        &tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
        &tlv(0x24, b"SHA256"),
        &tlv(0x25, b"RSA2048"),
        &tlv(0x26, b"x25519"),
        &tlv(0x2f, b"?"),
        &tlv(0x21, b"again"),
    ]
    .concat();
    let tlvs = [
        tlv(0x01, b"h2"),
        tlv(0x02, b"example.org"),
        tlv(0x04, b"nothing"),
        tlv(0x05, b"\x00\"\\\xff="),
        tlv(0x20, &ssl),
        tlv(0x30, b"blue"),
        tlv(0xea, b"\x01vpce-08d2bf15fac5001c9"),
        tlv(0xee, &[1, 0x78, 0x56, 0x34, 0x12]),
        tlv(0xe0, &[0, 0, 0, 0, 0, 0, 1, 2]),
        tlv(0xe5, b""),
        tlv(0x02, b"again"),
        tlv(0xee, &[2]),
    ];
    let bytes = v2(1, 0x11, &[V4, &tlvs.concat()]);
    let expected = [
        "version=2",
        "command=proxy",
        "protocol=tcp4",
        "destination=198.51.100.1:443",
        "alpn=h2",
        "authority=example.org",
        "unique_id=\\x00\\\"\\\\\\xff=",
        "ssl=ssl,cert_conn,cert_sess",
        "ssl_verify=19",
        "ssl_version=TLSv1.3",
        "ssl_cn=Gr\\xc3\\xb6\\xc3\\x9fe",
        "ssl_cipher=TLS_AES_128_GCM_SHA256",
        "ssl_sig_alg=SHA256",
        "ssl_key_alg=RSA2048",
        "ssl_group=x25519",
        "ssl_2f=?",
        "netns=blue",
        "aws_vpce_id=vpce-08d2bf15fac5001c9",
        "azure_link_id=305419896",
        "gcp_psc_id=258",
        "tlv_e5=",
    ];
    assert_eq!(facts(&bytes), expected);
    let odd = v2(1, 0, &[&tlv(0xea, &[2, b'x']), &tlv(0xee, &[1, 2]), &tlv(0xe0, b"")]);
    assert_eq!(facts(&odd)[2..], ["tlv_ea=\\x02x", "tlv_ee=\\x01\\x02", "tlv_e0="]);
}

#[test]
fn each_fault_has_its_reason() {
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
    let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
    assert_eq!(header(&longest).len, 107);
    let wrong_sum = [&HAPROXY_V2[..HAPROXY_V2.len() - 1], b"!"].concat();
    let large = v2(1, 0, &[&tlv(4, &[0; 4096 - 16 - 3])]);
    assert_eq!(header(&large).len, 4096);
    let faults = [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Fault::NoHeader),
        (b"\r\n\r\n\0\r\nQUIT?", Fault::NoHeader),
        (b"PROXY\tTCP4", Fault::NoHeader),
        (&long, Fault::LineTooLong),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", Fault::LineEnd),
        (b"PROXY \n", Fault::LineEnd),
        (b"PROXY \r\n", Fault::LineProtocol),
        (b"PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", Fault::LineProtocol),
        (b"PROXY UNKNOWNS\r\n", Fault::LineProtocol),
        (b"PROXY TCP4\r\n", Fault::LineFields),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", Fault::LineFields),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", Fault::LineFields),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", Fault::LineFields),
        (b"PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", Fault::SourceAddress),
        (b"PROXY TCP4 ::1 198.51.100.1 1 2\r\n", Fault::SourceAddress),
        (b"PROXY TCP4  192.0.2.7 198.51.100.1 1\r\n", Fault::SourceAddress),
        (b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n", Fault::SourceAddress),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Fault::SourceAddress),
        (b"PROXY TCP4 192.0.2.7 198.51.100 1 2\r\n", Fault::DestinationAddress),
        (b"PROXY TCP4 192.0.2.7 \xff 1 2\r\n", Fault::DestinationAddress),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", Fault::SourcePort),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", Fault::SourcePort),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 02\r\n", Fault::DestinationPort),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\r\n", Fault::DestinationPort),
        (b"\r\n\r\n\0\r\nQUIT\n\x11", Fault::Version),
        (&v2(2, 0x11, &[V4]), Fault::Command),
        (&v2(1, 0x01, &[]), Fault::Protocol),
        (&v2(1, 0x10, &[V4]), Fault::Protocol),
        (&v2(1, 0x13, &[V4]), Fault::Protocol),
        (&v2(1, 0x41, &[V4]), Fault::Protocol),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf1", Fault::TooLong),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\xff\xff", Fault::TooLong),
        (&v2(1, 0x11, &[&V4[..11]]), Fault::AddressesCut),
        (&v2(1, 0x31, &[&[b'x'; 215]]), Fault::AddressesCut),
        (&v2(1, 0x11, &[V4, &[0]]), Fault::TlvCut),
        (&v2(1, 0x11, &[V4, &[1, 0, 3, b'h', b'2']]), Fault::TlvCut),
        (&v2(1, 0x11, &[V4, &tlv(0x20, &[0; 4])]), Fault::TlvSslCut),
        (&v2(1, 0x11, &[V4, &tlv(0x20, &[0, 0, 0, 0, 0, 0x21, 0, 1])]), Fault::TlvSslCut),
        (&v2(1, 0x11, &[V4, &tlv(5, &[b'x'; 129])]), Fault::UniqueIdTooLong),
        (&v2(1, 0x11, &[V4, &tlv(3, &[0; 3])]), Fault::ChecksumSize),
        (&v2(1, 0x11, &[V4, &tlv(3, &[0; 4]), &tlv(3, &[0; 4])]), Fault::ChecksumTwice),
        (&wrong_sum, Fault::Checksum),
    ];
    for (bytes, fault) in faults {
        assert_eq!(parse(bytes, ProxyVersions::Any), Err(fault), "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(b"Q", ProxyVersions::V1), Err(Fault::NoVersion1));
    assert_eq!(parse(b"Q", ProxyVersions::V2), Err(Fault::NoVersion2));
    let texts: HashSet<_> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
    let kinds: HashSet<_> = faults.iter().map(|(_, fault)| fault).collect();
    assert_eq!((texts.len(), kinds.len()), (20, 20));
}

/// A header as a sender would write it, and whom it names.
fn headers() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let address = || any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip(), address.port()));
    let line = (address(), any::<u16>()).prop_map(|(from, port)| {
        let (family, ip) = if from.is_ipv4() { ("TCP4", "198.51.100.1") } else { ("TCP6", "::1") };
        let line = format!("PROXY {family} {} {ip} {} {port}\r\n", from.ip(), from.port());
        (line.into_bytes(), Some(from))
    });
    let tlvs = prop::collection::vec((0x06..=0x1f_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..4);
    let binary = (address(), any::<bool>(), tlvs).prop_map(|(from, is_local, tlvs)| {
        let mut body = Vec::new();
        match from.ip() {
            std::net::IpAddr::V4(ip) => [ip.octets(), [9; 4]].iter().for_each(|ip| body.extend(ip)),
            std::net::IpAddr::V6(ip) => [ip.octets(), [9; 16]].iter().for_each(|ip| body.extend(ip)),
        }
        body.extend(from.port().to_be_bytes());
        body.extend([0, 7]);
        tlvs.iter().for_each(|(kind, value)| body.extend(tlv(*kind, value)));
        let protocol = if from.is_ipv4() { 0x11 } else { 0x21 };
        (v2(u8::from(!is_local), protocol, &[&body]), (!is_local).then_some(from))
    });
    prop_oneof![line, binary]
}

proptest! {
    #[test]
    fn what_a_sender_writes_is_understood((bytes, from) in headers()) {
        let found = header(&bytes);
        prop_assert_eq!(found.len, bytes.len());
        let from = from.map(|from| Peer::Ip(SocketAddr::new(from.ip().to_canonical(), from.port())));
        prop_assert_eq!(found.addresses.map(|addresses| addresses.source()), from);
        for len in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..len], ProxyVersions::Any), Ok(None));
        }
    }

    #[test]
    fn any_cut_gives_the_same(
        (mut bytes, _) in headers(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        behind in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let len = bytes.len();
        changes.iter().for_each(|(place, byte)| bytes[place.index(len)] = *byte);
        bytes.extend(behind);
        for versions in [ProxyVersions::V1, ProxyVersions::V2, ProxyVersions::Any] {
            let whole = parse(&bytes, versions);
            let found = (0..=bytes.len()).map(|len| parse(&bytes[..len], versions)).find(|found| *found != Ok(None));
            prop_assert_eq!(found.unwrap_or(Ok(None)), whole);
        }
    }
}
