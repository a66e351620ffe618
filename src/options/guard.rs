//! Values of the options that guard a listener: networks, ports, rates, and what ends a loop between servers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use crate::values::{
    DURATION_MAX, ValueFault, count_within, duration_text, duration_within, list_text, parse_list,
    parse_ranges, ranges_text,
};

/// The addresses that share a prefix: `10.0.0.0/8`, `fd00::/8`; a single address is a network too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// The network of an address. Bits behind the prefix are cleared, and IPv4-mapped IPv6 is IPv4.
    pub(crate) fn of(address: IpAddr, prefix_bits: u8) -> Network {
        match address {
            IpAddr::V4(v4) => {
                let prefix_bits = prefix_bits.min(Ipv4Addr::BITS as u8);
                Network {
                    address: Ipv4Addr::from_bits(v4.to_bits() & !behind_v4(prefix_bits)).into(),
                    prefix_bits,
                }
            }
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if prefix_bits >= MAPPED_BITS => Network::of(v4.into(), prefix_bits - MAPPED_BITS),
                _ => {
                    let prefix_bits = prefix_bits.min(Ipv6Addr::BITS as u8);
                    Network {
                        address: Ipv6Addr::from_bits(v6.to_bits() & !behind_v6(prefix_bits)).into(),
                        prefix_bits,
                    }
                }
            },
        }
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The last address.
    pub(crate) fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | behind_v4(self.prefix_bits)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | behind_v6(self.prefix_bits)).into(),
        }
    }

    /// The length of the prefix.
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether an address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Network::of(address, self.prefix_bits) == *self
    }
}

/// The bits of an address that are behind its prefix.
fn behind_v4(prefix_bits: u8) -> u32 {
    u32::MAX.checked_shr(prefix_bits.into()).unwrap_or(0)
}

fn behind_v6(prefix_bits: u8) -> u128 {
    u128::MAX.checked_shr(prefix_bits.into()).unwrap_or(0)
}

/// `::ffff:0:0/96` holds what is IPv4 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

impl FromStr for Network {
    type Err = ValueFault;

    fn from_str(text: &str) -> Result<Network, ValueFault> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let ip: IpAddr = address.parse().map_err(|_| {
            ValueFault::new(0, "a network is expected, such as 10.0.0.0/8 or fd00::/8, or an address")
        })?;
        let most = if ip.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        let prefix_bits = match prefix {
            None => most,
            Some(prefix) => {
                count_within(prefix, 0, most).map_err(|fault| fault.shifted(address.len() + 1))?
            }
        };
        Ok(Network::of(ip, prefix_bits as u8))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// So many messages in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages; at least 1.
    pub count: u32,
    /// In this time.
    pub within: Duration,
}

impl Rate {
    /// What comes in two seconds, at least one.
    pub(crate) fn default_burst(self) -> u32 {
        let seconds = self.within.as_secs_f64().max(1e-6);
        ((2.0 * f64::from(self.count) / seconds) as u32).max(1)
    }
}

/// Which part of an address is one network for `rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateNetworks {
    /// Bits of an IPv4 address.
    pub v4_bits: u8,
    /// Bits of an IPv6 address.
    pub v6_bits: u8,
}

impl Default for RateNetworks {
    fn default() -> Self {
        RateNetworks { v4_bits: 24, v6_bits: 56 }
    }
}

impl RateNetworks {
    /// The network of an address, for a hash.
    pub(crate) fn words(self, address: IpAddr) -> [u64; 3] {
        let network = match address.to_canonical() {
            ip @ IpAddr::V4(_) => Network::of(ip, self.v4_bits),
            ip @ IpAddr::V6(_) => Network::of(ip, self.v6_bits),
        };
        match network.address {
            IpAddr::V4(ip) => [4, u64::from(ip.to_bits()), 0],
            IpAddr::V6(ip) => [6, (ip.to_bits() >> 64) as u64, ip.to_bits() as u64],
        }
    }
}

/// How many answers one peer may send back before that is a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopHops {
    /// From a port below 32768, or the listener's own: those of services.
    pub service: u32,
    /// From any other port; `None`: as many as come.
    pub client: Option<u32>,
}

/// A value of the guard that the kind of the guard chooses, unless it is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Guarded<T> {
    /// What [`GuardLevel`] and the address of the listener say.
    #[default]
    Auto,
    /// Not checked.
    Off,
    /// This one.
    Set(T),
}

impl<T: Clone> Guarded<T> {
    /// The value that holds; `auto`: what it is where nothing is set.
    pub(crate) fn or_else(&self, auto: impl FnOnce() -> Option<T>) -> Option<T> {
        match self {
            Guarded::Auto => auto(),
            Guarded::Off => None,
            Guarded::Set(value) => Some(value.clone()),
        }
    }
}

/// `guard`: what a listener for datagrams expects of its peers, wherever no option of its own says that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuardLevel {
    /// Loops between servers end.
    #[default]
    Local,
    /// Rates are limited too, and messages are short.
    Public,
    /// Everybody is answered.
    Off,
}

impl GuardLevel {
    pub(super) const NAMES: &'static str = "local|public|off";

    pub(super) fn parse(text: &str) -> Result<GuardLevel, ValueFault> {
        match text {
            "local" => Ok(GuardLevel::Local),
            "public" => Ok(GuardLevel::Public),
            "off" => Ok(GuardLevel::Off),
            _ => Err(ValueFault::new(0, format!("expected {}", GuardLevel::NAMES.replace('|', ", ")))),
        }
    }
}

impl fmt::Display for GuardLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuardLevel::Local => "local",
            GuardLevel::Public => "public",
            GuardLevel::Off => "off",
        })
    }
}

/// Source ports, in order and apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Whether a port is among them.
    #[inline]
    pub fn has(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

impl Default for Ports {
    /// Those that clients have: below are services, which an attacker names as the source of what they forge.
    fn default() -> Self {
        Ports(vec![(1024, u16::MAX)])
    }
}

pub(super) fn parse_networks(text: &str, none: &str) -> Result<Option<Vec<Network>>, ValueFault> {
    if text == none {
        return Ok(None);
    }
    let mut networks = parse_list(text, str::parse::<Network>)
        .map_err(|fault| ValueFault::new(fault.at, format!("{}; or {none}", fault.message)))?;
    networks.sort_unstable_by_key(|network| (network.address, network.prefix_bits));
    networks.dedup();
    Ok(Some(networks))
}

pub(super) fn networks_text(networks: Option<&[Network]>, none: &str) -> String {
    networks.map_or_else(|| none.to_owned(), |networks| list_text(networks, Network::to_string))
}

/// Reads `auto`, the word for no check, or a value.
pub(super) fn guarded<T>(
    text: &str,
    off: &str,
    parse: impl FnOnce(&str) -> Result<T, ValueFault>,
) -> Result<Guarded<T>, ValueFault> {
    match text {
        "auto" => Ok(Guarded::Auto),
        _ if text == off => Ok(Guarded::Off),
        _ => parse(text)
            .map(Guarded::Set)
            .map_err(|fault| ValueFault::new(fault.at, format!("{}; or auto, or {off}", fault.message))),
    }
}

pub(super) fn guarded_text<T>(value: &Guarded<T>, off: &str, text: impl FnOnce(&T) -> String) -> String {
    match value {
        Guarded::Auto => "auto".to_owned(),
        Guarded::Off => off.to_owned(),
        Guarded::Set(value) => text(value),
    }
}

pub(super) fn parse_ports(text: &str) -> Result<Ports, ValueFault> {
    parse_ranges(text, u16::MAX, "a port").map(Ports)
}

pub(super) fn ports_text(ports: &Ports) -> String {
    ranges_text(&ports.0)
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, ValueFault> {
    let Some((count, within)) = text.split_once('/') else {
        return Err(ValueFault::new(text.len(), "a rate is written COUNT/DURATION: 200/1s"));
    };
    Ok(Rate {
        count: count_within(count, 1, RATE_MAX)?,
        within: duration_within(within, RATE_WITHIN_MIN, DURATION_MAX, "")
            .map_err(|fault| fault.shifted(count.len() + 1))?,
    })
}

pub(super) fn rate_text(rate: &Rate) -> String {
    format!("{}/{}", rate.count, duration_text(rate.within))
}

pub(super) fn parse_rate_networks(text: &str) -> Result<RateNetworks, ValueFault> {
    let Some((v4, v6)) = text.split_once('/') else {
        return Err(ValueFault::new(
            text.len(),
            "two lengths of prefixes are expected, for IPv4 and IPv6: 24/56",
        ));
    };
    Ok(RateNetworks {
        v4_bits: count_within(v4, 0, Ipv4Addr::BITS)? as u8,
        v6_bits: count_within(v6, 0, Ipv6Addr::BITS).map_err(|fault| fault.shifted(v4.len() + 1))? as u8,
    })
}

pub(super) fn rate_networks_text(networks: RateNetworks) -> String {
    format!("{}/{}", networks.v4_bits, networks.v6_bits)
}

pub(super) fn parse_loop_hops(text: &str) -> Result<LoopHops, ValueFault> {
    let Some((service, client)) = text.split_once(':') else {
        let message = "two numbers are expected, for ports of services and of clients: 2:256 or 2:off";
        return Err(ValueFault::new(text.len(), message));
    };
    let at_client = |fault: ValueFault| fault.shifted(service.len() + 1);
    Ok(LoopHops {
        service: count_within(service, 1, HOPS_MAX)?,
        client: match client {
            "off" => None,
            count => Some(count_within(count, 1, HOPS_MAX).map_err(at_client)?),
        },
    })
}

pub(super) fn loop_hops_text(hops: &LoopHops) -> String {
    let client = hops.client.map_or_else(|| "off".to_owned(), |count| count.to_string());
    format!("{}:{client}", hops.service)
}

pub(super) fn parse_loop_mark(text: &str) -> Result<u8, ValueFault> {
    count_within(text, MARK_MIN, MARK_MAX).map(|mark| mark as u8)
}

const RATE_MAX: u32 = 1_000_000_000;
const RATE_WITHIN_MIN: Duration = Duration::from_millis(1);
const HOPS_MAX: u32 = 65_535;
/// Systems begin at 64, 128 or 255, and no path is as long as 56 hops: marks from here on are nobody's first limit.
const MARK_MIN: u32 = 186;
const MARK_MAX: u32 = 254;
