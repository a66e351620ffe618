//! The header of a proxy, in front of a stream or in a datagram: whether it may be there, and whom it names.

use std::time::Duration;

use crate::connection::{Around, Preface, PrefaceProgress};
use crate::error::{Result, SpecError};
use crate::net::guard::Prefixes;
use crate::options::Options;
use crate::peer::{Peer, SocketKind};
use crate::proxy::{Fault, Proxied, ProxyVersions, parse};
use crate::stats::DropReason;

/// What a listener asks of the proxies in front of it.
#[derive(Debug)]
pub(crate) struct ProxyRules {
    versions: ProxyVersions,
    /// `None`: whoever reaches the listener is one.
    from: Option<Prefixes>,
    within: Duration,
}

impl ProxyRules {
    /// `None`: there are no proxies.
    pub(crate) fn new(kind: SocketKind, options: &Options, is_loopback: bool) -> Result<Option<ProxyRules>> {
        // Nobody sends one in records.
        let Some(versions) = options.proxy.filter(|_| kind != SocketKind::UnixSeqpacket) else {
            return Ok(None);
        };
        if let Some(reason) = options.proxy_fault(kind, is_loopback || kind.is_unix()) {
            let text = format!("proxy={}", options.get("proxy").unwrap_or_default());
            return Err(SpecError::new("option", &text, 0, reason).into());
        }
        let versions = if kind.is_datagram() { ProxyVersions::V2 } else { versions };
        let from = if kind.is_unix() { None } else { Prefixes::new(options.proxy_from.as_deref(), &[]) };
        Ok(Some(ProxyRules { versions, from, within: options.proxy_timeout }))
    }

    /// Whether a header from there is believed.
    pub(crate) fn trusts(&self, proxy: &Peer) -> bool {
        match (&self.from, proxy) {
            (Some(from), Peer::Ip(address)) => from.allows(address.ip()),
            (Some(_), _) => false,
            (None, _) => true,
        }
    }

    /// What stands in front of a stream, and then around it.
    pub(crate) fn in_front_of(&self, around: Option<Around>) -> Around {
        Around::behind(Box::new(HeaderPreface(self.versions)), self.within, around)
    }

    /// Who sent a datagram that came from `from`, as its header says.
    pub(crate) fn read(
        &self,
        from: &Peer,
        datagram: &[u8],
        message_bytes_max: usize,
    ) -> std::result::Result<Sender, RefusedHeader> {
        if !self.trusts(from) {
            return Err(RefusedHeader { reason: DropReason::NotFromProxy, fault: None });
        }
        let header = match parse(datagram, self.versions).and_then(|header| header.ok_or(Fault::Cut)) {
            Ok(header) => header,
            Err(fault) => {
                return Err(RefusedHeader { reason: DropReason::ProxyHeader, fault: Some(fault) });
            }
        };
        if datagram.len() - header.len > message_bytes_max {
            return Err(RefusedHeader { reason: DropReason::TooLong, fault: None });
        }
        let peer = header.addresses.map_or_else(|| from.clone(), |addresses| addresses.source());
        let proxied = Box::new(Proxied::new(&header, datagram, from));
        Ok(Sender { peer, proxied, header_bytes: header.len })
    }
}

/// Why a datagram with a header, or without one, is dropped.
#[derive(Debug)]
pub(crate) struct RefusedHeader {
    pub(crate) reason: DropReason,
    pub(crate) fault: Option<Fault>,
}

/// Who sent a datagram, as its header says.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) peer: Peer,
    pub(crate) proxied: Box<Proxied>,
    /// The message is behind them.
    pub(crate) header_bytes: usize,
}

/// A header in front of a stream.
#[derive(Debug)]
struct HeaderPreface(ProxyVersions);

impl Preface for HeaderPreface {
    fn received(&mut self, bytes: &[u8]) -> PrefaceProgress {
        match parse(bytes, self.0) {
            Ok(None) => PrefaceProgress::NeedMore,
            Ok(Some(header)) => PrefaceProgress::Done {
                used: header.len,
                peer: header.addresses.map(|addresses| addresses.source()),
            },
            Err(fault) => PrefaceProgress::Refuse(fault.text()),
        }
    }

    fn proxied(&self, bytes: &[u8], from: &Peer) -> Option<Box<Proxied>> {
        let header = parse(bytes, self.0).ok()??;
        Some(Box::new(Proxied::new(&header, bytes, from)))
    }
}
