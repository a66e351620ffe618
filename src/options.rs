//! The options of a listener: one table of names for URL queries, `--set`, the configuration file and
//! `resay_set`.
//!
//! Nothing here touches a socket: text becomes values, and what is wrong is refused with the place where it
//! is wrong. Across sources the later one wins; within one URL a key may stand once (`net::address` sees to
//! that). Sizes take `k`, `m` and `g`, powers of 1024; durations take `us`, `ms`, `s`, `m` and `h`.

mod chosen;
mod guard;
mod keys;
mod text;
mod types;

pub use crate::frame::Frame;
pub use crate::proxy::ProxyVersions;
pub use crate::values::{ValueFault, duration_text, nearest, parse_bool, parse_duration, parse_size};
pub use guard::{GuardLevel, Guarded, LoopHops, Network, Ports, Rate, RateNetworks};
pub use keys::{ENGINE_KEYS, EngineKey, KEYS, Key, OptionFault, ValueType};
pub use types::{AddressKind, Keepalive, MaxAmplification, MinRate, Options};

#[cfg(test)]
mod tests;
