//! What guards the datagrams of a listener, with all that `guard` and the address choose for it.

use std::time::Duration;

use super::guard::{GuardLevel, LoopHops, Ports, Rate, loop_hops_text, ports_text, rate_text};
use super::types::Options;
use crate::frame::Frame;
use crate::limits::STREAM_MESSAGE_BYTES_MAX;
use crate::peer::SocketKind;
use crate::proxy::ProxyVersions;

impl Options {
    /// Source ports that are answered; `None`: all.
    pub(crate) fn guard_ports(&self, is_loopback: bool) -> Option<Ports> {
        let is_guarded =
            self.guard == GuardLevel::Public || (self.guard == GuardLevel::Local && !is_loopback);
        self.from_ports.or_else(|| is_guarded.then(Ports::default))
    }

    /// When a loop ends.
    pub(crate) fn guard_hops(&self, is_loopback: bool) -> Option<LoopHops> {
        let client = (!is_loopback).then_some(CLIENT_HOPS);
        let is_guarded = self.guard != GuardLevel::Off;
        self.loop_hops.or_else(|| is_guarded.then_some(LoopHops { service: SERVICE_HOPS, client }))
    }

    /// The hop limit of answers.
    pub(crate) fn guard_mark(&self) -> Option<u8> {
        self.loop_mark.or_else(|| (self.guard != GuardLevel::Off).then_some(LOOP_MARK))
    }

    /// Answers to one network, and how many at once.
    pub(crate) fn guard_rate(&self) -> Option<(Rate, u32)> {
        let rate = self.rate.or_else(|| (self.guard == GuardLevel::Public).then_some(PUBLIC_RATE))?;
        Some((rate, self.rate_burst.unwrap_or_else(|| rate.default_burst())))
    }

    /// Answers in all.
    pub(crate) fn guard_rate_total(&self) -> Option<Rate> {
        self.rate_total.or_else(|| (self.guard == GuardLevel::Public).then_some(PUBLIC_RATE_TOTAL))
    }

    /// What holds of the options that may be `auto`, as they would be typed.
    pub(crate) fn guard_texts(&self, is_loopback: bool) -> [(&'static str, String); 6] {
        fn text<T>(value: Option<T>, off: &str, text: impl FnOnce(&T) -> String) -> String {
            value.as_ref().map_or_else(|| off.to_owned(), text)
        }
        let burst = self.guard_rate().map(|(_, burst)| burst);
        [
            ("from_ports", text(self.guard_ports(is_loopback), "any", ports_text)),
            ("loop_hops", text(self.guard_hops(is_loopback), "off", loop_hops_text)),
            ("loop_mark", text(self.guard_mark(), "off", u8::to_string)),
            ("rate", text(self.guard_rate().map(|(rate, _)| rate), "off", rate_text)),
            ("rate_burst", text(burst, "auto", u32::to_string)),
            ("rate_total", text(self.guard_rate_total(), "off", rate_text)),
        ]
    }

    /// Why headers of proxies cannot be believed by a listener as it is, if so. `is_local`: nobody but those on this host
    /// reaches it.
    pub(crate) fn proxy_fault(&self, kind: SocketKind, is_local: bool) -> Option<&'static str> {
        match self.proxy? {
            ProxyVersions::V1 if kind.is_datagram() => {
                Some("datagrams have headers of version 2 only: proxy=v2")
            }
            _ if self.proxy_from.is_none() && !is_local => Some(
                "anybody who reaches the listener could say to be anybody: name the proxies, for example \
                 proxy_from=10.0.0.0/8",
            ),
            _ => None,
        }
    }

    /// Why a stream cannot have its frame, if so: no message would fit into it.
    pub(crate) fn frame_fault(&self) -> Option<String> {
        let most = self.max_message_bytes.unwrap_or(STREAM_MESSAGE_BYTES_MAX);
        let is_over = matches!(self.frame, Frame::Fixed(bytes) if bytes > most);
        is_over.then(|| format!("it is over max_message ({most} bytes)"))
    }

    /// The longest datagram, where `max_message` does not say it.
    pub(crate) fn guard_message_bytes_max(&self) -> Option<usize> {
        (self.guard == GuardLevel::Public).then_some(PUBLIC_MESSAGE_BYTES)
    }

    /// The most bytes of an answer for each byte of a datagram.
    pub(crate) fn guard_amplification(&self, is_loopback: bool) -> usize {
        self.max_amplification.limit(is_loopback && self.guard != GuardLevel::Public)
    }
}

const SERVICE_HOPS: u32 = 2;
const CLIENT_HOPS: u32 = 256;
const LOOP_MARK: u8 = 216;
const PUBLIC_RATE: Rate = Rate { count: 200, within: Duration::from_secs(1) };
const PUBLIC_RATE_TOTAL: Rate = Rate { count: 50_000, within: Duration::from_secs(1) };
/// What fits into one packet of an Ethernet: 1500 bytes without the headers of IPv4 and UDP.
const PUBLIC_MESSAGE_BYTES: usize = 1472;
