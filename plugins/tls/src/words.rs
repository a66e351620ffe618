//! What is wrong, in plain words: much of what rustls has to say of an error are names of its source code, such as `UnknownIssuer`.

use rustls::{CertificateError, Error};
use std::fmt::Debug;
use std::time::Duration;

/// An error of rustls as text for people.
pub fn error_text(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => format!("invalid peer certificate: {}", certificate_text(why)),
        Error::AlertReceived(alert) => format!("received fatal alert: {}", words(alert)),
        Error::PeerIncompatible(why) => format!("peer is incompatible: {}", words(why)),
        Error::PeerMisbehaved(why) => format!("peer misbehaved: {}", words(why)),
        Error::InvalidMessage(why) => format!("received corrupt message: {}", words(why)),
        Error::InvalidCertRevocationList(why) => {
            format!("invalid certificate revocation list: {}", words(why))
        }
        Error::InconsistentKeys(why) => format!("keys may not be consistent: {}", words(why)),
        Error::InappropriateMessage { got_type, .. } => {
            format!("received unexpected message: {}", words(got_type))
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("received unexpected handshake message: {}", words(got_type))
        }
        // These have words of their own.
        other => other.to_string(),
    }
}

fn certificate_text(why: &CertificateError) -> String {
    let since = |later: Duration, earlier: Duration| later.saturating_sub(earlier).as_secs();
    match why {
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            let seconds =
                since(Duration::from_secs(time.as_secs()), Duration::from_secs(not_after.as_secs()));
            format!("it has expired, {seconds} s ago")
        }
        CertificateError::NotValidYet => "it is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            let seconds =
                since(Duration::from_secs(not_before.as_secs()), Duration::from_secs(time.as_secs()));
            format!("it is not valid yet, but in {seconds} s")
        }
        CertificateError::Revoked => "it has been revoked".to_owned(),
        CertificateError::UnknownIssuer => "its issuer is unknown here".to_owned(),
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("it is for {names}, not for {}", expected.to_str())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for another purpose".to_owned()
        }
        other => words(other),
    }
}

/// The name in `DnsName("example.org")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// A value as its name in the source says it, in words: `NoCipherSuitesInCommon` is `no cipher suites in common`.
fn words(value: &impl Debug) -> String {
    let debug = format!("{value:?}");
    let mut text = String::with_capacity(debug.len() + 8);
    let mut letters = debug.trim_end_matches(')').chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let begins_word = letter.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase)));
        if begins_word {
            text.push(' ');
        }
        // Of a name in capital letters all stay: TLS, CA.
        let is_of_capitals = letters.peek().is_some_and(char::is_ascii_uppercase)
            || (before.is_ascii_uppercase() && !letters.peek().is_some_and(char::is_ascii_lowercase));
        match letter {
            '(' => text.push_str(": "),
            _ if is_of_capitals => text.push(letter),
            _ => text.push(letter.to_ascii_lowercase()),
        }
        before = letter;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible, PeerMisbehaved};

    #[test]
    fn errors_are_told_in_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("localhost").unwrap(),
            presented: vec!["DnsName(\"example.org\")".to_owned(), "IpAddress(127.0.0.1)".to_owned()],
        };
        let expired = CertificateError::ExpiredContext { time: at(100), not_after: at(40) };
        for (error, text) in [
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "invalid peer certificate: its issuer is unknown here",
            ),
            (
                Error::InvalidCertificate(name),
                "invalid peer certificate: it is for example.org, IpAddress(127.0.0.1), not for localhost",
            ),
            (Error::InvalidCertificate(expired), "invalid peer certificate: it has expired, 60 s ago"),
            (
                Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension),
                "invalid peer certificate: unhandled critical extension",
            ),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                "received fatal alert: certificate required",
            ),
            (Error::AlertReceived(AlertDescription::UnknownCA), "received fatal alert: unknown CA"),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "peer is incompatible: no cipher suites in common",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
                "peer is incompatible: tls12 not offered",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments),
                "peer misbehaved: too many empty fragments",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "received corrupt message: invalid content type",
            ),
            (
                Error::InvalidMessage(InvalidMessage::MissingData("Certificate")),
                "received corrupt message: missing data: \"certificate\"",
            ),
            (Error::NoCertificatesPresented, "peer sent no certificates"),
        ] {
            assert_eq!(error_text(&error), text);
        }
    }
}
