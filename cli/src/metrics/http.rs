//! As much of HTTP/1.1 as a scrape takes (RFC 9112): one request without a body, one answer, and the end. Does no I/O.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Status as Parsing};

/// A request is not read beyond this.
pub(super) const REQUEST_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// A status line's number and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16, &'static str);

pub(super) const OK: Status = Status(200, "OK");
pub(super) const BAD_REQUEST: Status = Status(400, "Bad Request");
pub(super) const FORBIDDEN: Status = Status(403, "Forbidden");
pub(super) const NOT_FOUND: Status = Status(404, "Not Found");
pub(super) const METHOD_NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
pub(super) const TIMEOUT: Status = Status(408, "Request Timeout");
pub(super) const TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");
pub(super) const UNAVAILABLE: Status = Status(503, "Service Unavailable");

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Without what follows a question mark.
    pub(super) path: String,
    /// The answer has no body.
    pub(super) is_head: bool,
    /// The client prefers OpenMetrics to the older text.
    pub(super) wants_open_metrics: bool,
}

/// Reads what has arrived. `None`: more is to come. `checks_host`: see [`is_own_host`].
pub(super) fn parse(bytes: &[u8], checks_host: bool) -> Option<Result<Request, Status>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Parsing::Complete(_)) => {}
        Ok(Parsing::Partial) if bytes.len() < REQUEST_BYTES_MAX => return None,
        Ok(Parsing::Partial) | Err(httparse::Error::TooManyHeaders) => return Some(Err(TOO_LARGE)),
        Err(_) => return Some(Err(BAD_REQUEST)),
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Err(METHOD_NOT_ALLOWED)),
    };
    let mut hosts = values(&request, "host");
    let host = hosts.next();
    // RFC 9112, 3.2: one Host, and one exactly from HTTP/1.1 on.
    if hosts.next().is_some() || (host.is_none() && request.version == Some(1)) {
        return Some(Err(BAD_REQUEST));
    }
    if checks_host && host.is_some_and(|host| !is_own_host(host)) {
        return Some(Err(FORBIDDEN));
    }
    let accepts: Vec<&[u8]> = values(&request, "accept").collect();
    let target = request.path.unwrap_or_default();
    // The absolute form, which clients of proxies send.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    Some(Ok(Request { path, is_head, wants_open_metrics: prefers_open_metrics(&accepts) }))
}

fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let headers = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    headers.map(|header| header.value)
}

/// Whether a name for this machine cannot be somebody else's: a web page on another host may give its own name the address
/// 127.0.0.1, and then have a browser read what is here (DNS rebinding). It cannot do so with an address.
fn is_own_host(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) if port.is_empty() || port.strip_prefix(':').is_some_and(is_port) => name,
        Some(_) => return false,
        None => host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// RFC 9110, 12.5.1, as far as it is about the two formats that there are.
fn prefers_open_metrics(accepts: &[&[u8]]) -> bool {
    let (mut open, mut text) = (0.0, None);
    for item in
        accepts.iter().filter_map(|value| str::from_utf8(value).ok()).flat_map(|value| value.split(','))
    {
        let mut parts = item.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open = weight.max(open);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            text = Some(weight.max(text.unwrap_or(0.0)));
        }
    }
    open > 0.0 && text.is_none_or(|text| open >= text)
}

/// An answer as it is sent.
pub(super) fn answer(status: Status, kind: &str, body: &str, is_head: bool) -> Vec<u8> {
    let allow = if status == METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        status.0,
        status.1,
        body.len(),
    );
    if !is_head {
        text += body;
    }
    text.into_bytes()
}

/// An answer of a few words.
pub(super) fn plain(status: Status, words: &str, is_head: bool) -> Vec<u8> {
    let words = if words.is_empty() { status.1 } else { words };
    answer(status, "text/plain; charset=utf-8", &format!("{words}\n"), is_head)
}

/// Any bytes of a client: a request, a refusal or the wish for more, which the limit ends.
#[cfg(any(test, fuzzing))]
pub(super) fn try_request(bytes: &[u8]) {
    for checks_host in [false, true] {
        let parsed = parse(bytes, checks_host);
        assert!(parsed.is_some() || bytes.len() < REQUEST_BYTES_MAX, "{}", bytes.escape_ascii());
        if let Some(Ok(request)) = parsed {
            assert!(!request.path.contains('?'), "{request:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Result<Request, Status>> {
        parse(text.as_bytes(), true)
    }

    #[test]
    fn requests_are_read() {
        let request = |path: &str, is_head, wants_open_metrics| {
            Some(Ok(Request { path: path.to_owned(), is_head, wants_open_metrics }))
        };
        let table = [
            ("GET /metrics HTTP/1.1\r\nHost: localhost:9464\r\n\r\n", request("/metrics", false, false)),
            ("HEAD /livez?x=1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", request("/livez", true, false)),
            ("GET http://[::1]:9/readyz HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", request("/readyz", false, false)),
            ("GET / HTTP/1.0\r\n\r\n", request("/", false, false)),
            ("GET /metrics HTTP/1.1\r\nHost: a.example\r\n\r\n", Some(Err(FORBIDDEN))),
            ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.a.example:80\r\n\r\n", Some(Err(FORBIDDEN))),
            ("GET /metrics HTTP/1.1\r\nHost: [a.example]\r\n\r\n", Some(Err(FORBIDDEN))),
            ("GET /metrics HTTP/1.1\r\n\r\n", Some(Err(BAD_REQUEST))),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", Some(Err(BAD_REQUEST))),
            ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", Some(Err(METHOD_NOT_ALLOWED))),
            ("GET /metrics\r\n\r\n", Some(Err(BAD_REQUEST))),
            ("\x16\x03\x01", Some(Err(BAD_REQUEST))),
            ("GET /metrics HTTP/1.1\r\nHost: local", None),
            ("", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parsed(text), wanted, "{text:?}");
        }
        assert!(
            parse(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", false).is_some_and(|found| found.is_ok())
        );
    }

    #[test]
    fn a_request_has_an_end() {
        let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
        assert_eq!(parsed(&long), Some(Err(TOO_LARGE)));
        let many = "X: y\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(parsed(&format!("GET / HTTP/1.1\r\n{many}")), Some(Err(TOO_LARGE)));
        try_request(long.as_bytes());
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                          version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let table = [
            (prometheus, true),
            ("application/openmetrics-text", true),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.4", false),
            ("application/openmetrics-text;q=0", false),
            ("text/plain", false),
            ("*/*", false),
            ("", false),
        ];
        for (accept, wanted) in table {
            assert_eq!(prefers_open_metrics(&[accept.as_bytes()]), wanted, "{accept:?}");
        }
    }

    #[test]
    fn a_head_says_how_long_the_body_would_be() {
        let text = String::from_utf8(plain(NOT_FOUND, "", true)).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(text.contains("Content-Length: 10\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
