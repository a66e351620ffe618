//! Which datagrams are answered: by their source, by the hop limit they arrive with, by rates, and by whether they are
//! answers of ours that came back.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::loops::LoopDetector;
use super::own::OwnAddresses;
use super::prefixes::Prefixes;
use super::rate::{NetworkRate, TotalRate};
use crate::options::{GuardLevel, LoopHops, Options, Ports};
use crate::stats::DropReason;
use crate::timer::Moment;

/// What all sockets of a listener have in common.
#[derive(Debug)]
pub(crate) struct DatagramRules {
    /// There are no lists and no rates.
    is_simple: bool,
    /// Sources that are our own are dropped.
    refuses_own: bool,
    from_ports: Option<Ports>,
    prefixes: Option<Prefixes>,
    /// Hop limits that answers of servers arrive with.
    marks: Option<RangeInclusive<u8>>,
    networks: Option<NetworkRate>,
    total: Option<TotalRate>,
    loop_hops: Option<LoopHops>,
}

/// How far a marked answer may have come.
const PATH_HOPS_MAX: u8 = 56;

impl DatagramRules {
    /// `None`: everything is answered.
    pub(crate) fn new(options: &Options, is_loopback: bool) -> Option<Arc<DatagramRules>> {
        let mut rules = DatagramRules {
            is_simple: false,
            refuses_own: options.guard != GuardLevel::Off,
            from_ports: options.guard_ports(is_loopback),
            prefixes: Prefixes::new(options.allow.as_deref(), &options.deny),
            marks: options.guard_mark().map(|mark| mark.saturating_sub(PATH_HOPS_MAX)..=mark),
            networks: options
                .guard_rate()
                .map(|(rate, burst)| NetworkRate::new(rate, burst, options.rate_networks)),
            total: options.guard_rate_total().map(TotalRate::new),
            loop_hops: options.guard_hops(is_loopback),
        };
        rules.is_simple = rules.from_ports.is_none()
            && rules.prefixes.is_none()
            && rules.networks.is_none()
            && rules.total.is_none();
        let is_idle =
            rules.is_simple && !rules.refuses_own && rules.marks.is_none() && rules.loop_hops.is_none();
        (!is_idle).then(|| Arc::new(rules))
    }

    /// Whether the hop limits of datagrams are looked at.
    pub(crate) fn needs_hops(&self) -> bool {
        self.marks.is_some()
    }
}

/// The guard of one socket.
#[derive(Debug)]
pub(crate) struct DatagramGuard {
    rules: Arc<DatagramRules>,
    own: Arc<OwnAddresses>,
    loops: Option<LoopDetector>,
}

impl DatagramGuard {
    /// `local`: what the socket is bound to.
    pub(crate) fn new(
        rules: &Arc<DatagramRules>,
        own: &Arc<OwnAddresses>,
        local: Option<SocketAddr>,
    ) -> DatagramGuard {
        let port = local.map_or(0, |address| address.port());
        let loops = rules.loop_hops.map(|hops| LoopDetector::new(hops, port));
        DatagramGuard { rules: Arc::clone(rules), own: Arc::clone(own), loops }
    }

    /// Whether there is nothing to find out about a datagram beside its port and its hop limit, and both are fine.
    #[inline]
    pub(crate) fn is_idle(&self, port: u16, hops: u8) -> bool {
        let rules = &*self.rules;
        // A listener on a loopback address has none of them by default, and no loops with ports of clients.
        let asks_nobody = rules.is_simple && !self.own.has_port(port);
        asks_nobody
            && rules.marks.as_ref().is_none_or(|marks| !marks.contains(&hops))
            && self.loops.as_ref().is_none_or(|loops| !loops.watches(port))
    }

    /// Why a datagram is not answered, if so. `hops`: its hop limit; 0 where that is not known.
    #[inline]
    pub(crate) fn refuse(
        &mut self,
        source: &SocketAddr,
        message: &[u8],
        hops: u8,
        now: Moment,
    ) -> Option<DropReason> {
        let rules = &*self.rules;
        if rules.refuses_own && self.own.has(source) {
            return Some(DropReason::OwnAddress);
        }
        if rules.from_ports.as_ref().is_some_and(|ports| !ports.has(source.port())) {
            return Some(DropReason::FromPort);
        }
        if rules.prefixes.as_ref().is_some_and(|prefixes| !prefixes.allows(source.ip())) {
            return Some(DropReason::Denied);
        }
        if rules.marks.as_ref().is_some_and(|marks| marks.contains(&hops)) {
            return Some(DropReason::LoopMark);
        }
        if rules.networks.as_ref().is_some_and(|networks| !networks.take(source.ip(), now)) {
            return Some(DropReason::Rate);
        }
        if rules.total.as_ref().is_some_and(|total| !total.take(now)) {
            return Some(DropReason::Rate);
        }
        let loops = self.loops.as_mut()?;
        loops.is_loop(source, message, now).then_some(DropReason::Loop)
    }

    /// An answer leaves now.
    #[inline]
    pub(crate) fn answered(&mut self, peer: &SocketAddr, answer: &[u8], now: Moment) {
        if let Some(loops) = &mut self.loops {
            loops.answered(peer, answer, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(options: &[&str]) -> Option<Arc<DatagramRules>> {
        let mut all = Options::default();
        options.iter().for_each(|pair| all.set_pair(pair).unwrap());
        DatagramRules::new(&all, false)
    }

    fn refused(options: &[&str], source: &str, hops: u8) -> Option<DropReason> {
        let own = Arc::new(OwnAddresses::default());
        own.enter("192.0.2.1:8888".parse().unwrap());
        let mut guard = DatagramGuard::new(&rules(options).unwrap(), &own, None);
        guard.refuse(&source.parse().unwrap(), b"message", hops, Moment::from_micros(1))
    }

    #[test]
    fn each_reason_has_its_turn() {
        let all = ["deny=192.0.2.0/24", "from_ports=5000-9000", "loop_mark=216"];
        for (source, hops, reason) in [
            ("192.0.2.1:8888", 216, Some(DropReason::OwnAddress)),
            ("192.0.2.2:53", 216, Some(DropReason::FromPort)),
            ("192.0.2.2:5000", 216, Some(DropReason::Denied)),
            ("[::ffff:192.0.2.2]:5000", 64, Some(DropReason::Denied)),
            ("192.0.3.2:5000", 217, None),
            ("192.0.3.2:5000", 216, Some(DropReason::LoopMark)),
            ("192.0.3.2:5000", 160, Some(DropReason::LoopMark)),
            ("192.0.3.2:5000", 159, None),
            ("192.0.3.2:5000", 0, None),
        ] {
            assert_eq!(refused(&all, source, hops), reason, "{source} {hops}");
        }
        assert_eq!(refused(&["loop_mark=off"], "192.0.3.2:5000", 216), None);
        assert!(rules(&["guard=off"]).is_none());
    }

    /// Rules that look at nothing but the port and the hop limit of most datagrams.
    #[test]
    fn what_needs_a_look_is_known() {
        for (options, is_simple) in [
            (&["from_ports=any", "loop_mark=216"][..], true),
            (&["from_ports=any"], true),
            (&["from_ports=1024-65535"], false),
            (&["from_ports=any", "deny=192.0.2.0/24"], false),
            (&["from_ports=any", "rate=10/1s"], false),
            (&["from_ports=any", "rate_total=10/1s"], false),
            (&["guard=off", "loop_mark=216"], true),
            (&["guard=off", "allow=192.0.2.0/24"], false),
        ] {
            let is_marked = options.contains(&"loop_mark=216");
            let mark = if is_marked { &[][..] } else { &["loop_mark=off"] };
            let rules = rules(&[options, &["loop_hops=off"], mark].concat()).unwrap();
            assert_eq!(rules.needs_hops(), is_marked, "{options:?}");
            let guard = DatagramGuard::new(&rules, &Arc::default(), None);
            assert_eq!(guard.is_idle(40_000, 64), is_simple, "{options:?}");
            assert_eq!(guard.is_idle(40_000, 216), is_simple && !is_marked, "{options:?}");
        }
    }

    #[test]
    fn a_rate_of_a_network_is_not_that_of_others() {
        let (now, own) = (Moment::from_micros(1), Arc::new(OwnAddresses::default()));
        let rules = rules(&["rate=10/1s", "rate_burst=3", "rate_total=2/1s"]).unwrap();
        // Two sockets of one listener, of which each network may use any.
        let mut guards = [0, 1].map(|_| DatagramGuard::new(&rules, &own, None));
        let mut ask = |turn: usize, source: &str| {
            let message = turn.to_le_bytes();
            guards[turn % 2].refuse(&source.parse().unwrap(), &message, 0, now)
        };
        for turn in 0..3 {
            assert_eq!(ask(turn, "192.0.2.1:5000"), None, "{turn}");
        }
        assert_eq!(ask(3, "192.0.2.77:6000"), Some(DropReason::Rate));
        assert_eq!(ask(4, "192.0.3.1:5000"), None);
        // That is all that the listener has, at once: a burst is what comes in two seconds.
        assert_eq!(ask(5, "192.0.4.1:5000"), Some(DropReason::Rate));
    }
}
