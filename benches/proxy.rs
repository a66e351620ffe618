//! What the header of a PROXY protocol costs: to find it and to check it. At most 80 ns in version 2, and 250 ns in version 1;
//! a checksum comes on top of that, byte by byte.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use resay::{ProxyVersions, parse_proxy};

/// With addresses of both families, and as HAProxy sends it with `proxy-v2-options crc32c,unique-id`.
const HEADERS: [(&str, &[u8]); 5] = [
    ("v1-tcp4", b"PROXY TCP4 203.0.113.117 198.51.100.101 50312 443\r\nmessage"),
    ("v1-tcp6", b"PROXY TCP6 2001:db8:85a3::8a2e:370:7334 2001:db8::1 50312 443\r\nmessage"),
    ("v2-tcp4", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x75\xc6\x33\x64\x65\xc4\x88\x01\xbbmessage"),
    (
        "v2-tcp4-unique-id",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20\xcb\0\x71\x75\xc6\x33\x64\x65\xc4\x88\x01\xbb\x05\0\x11127.0.0.1-60378-1message",
    ),
    (
        "v2-tcp4-crc32c-unique-id",
        b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00'\x7f\x00\x00\x01\x7f\x00\x00\x01\xeb\xdaF\xa2\x03\x00\x04\xd5\\nm\x05\x00\x11127.0.0.1-60378-1message",
    ),
];

fn proxy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proxy");
    for (name, bytes) in HEADERS {
        assert!(matches!(parse_proxy(bytes, ProxyVersions::Any), Ok(Some(_))), "{name}");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| parse_proxy(black_box(bytes), black_box(ProxyVersions::Any)).map(black_box));
        });
    }
    group.finish();
}

criterion_group!(benches, proxy);
criterion_main!(benches);
