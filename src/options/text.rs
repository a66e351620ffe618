//! The values of options as text, apart from those of the [guard](super::guard), and their ranges.

use std::time::Duration;

use super::types::{Keepalive, MaxAmplification, MinRate};
use crate::limits::MESSAGE_BYTES_CEILING;
use crate::proxy::ProxyVersions;
use crate::transform::spec::StageSpec;
use crate::values::{
    DURATION_MAX, ValueFault, count_within, duration_text, duration_within, list_text, order_few, parse_bool,
    parse_duration, parse_list, size_text, size_within,
};

pub(super) fn parse_keepalive(text: &str) -> Result<Keepalive, ValueFault> {
    match parse_bool(text) {
        Ok(false) => return Ok(Keepalive::Off),
        Ok(true) => return Ok(Keepalive::On),
        Err(fault) if !text.starts_with(|letter: char| letter.is_ascii_digit()) => {
            return Err(ValueFault::new(fault.at, "0, 1 or a duration such as 60s is expected"));
        }
        Err(_) => {}
    }
    let idle = duration_within(text, KEEPALIVE_MIN, KEEPALIVE_MAX, "; 0 turns it off")?;
    if idle.subsec_nanos() != 0 {
        return Err(ValueFault::new(0, "the system counts whole seconds here"));
    }
    Ok(Keepalive::After(idle))
}

pub(super) fn parse_idle_timeout(text: &str) -> Result<Option<Duration>, ValueFault> {
    if text == "off" || parse_duration(text) == Ok(Duration::ZERO) {
        return Ok(None);
    }
    duration_within(text, TIMEOUT_MIN, DURATION_MAX, "; 0 or off turns it off").map(Some)
}

/// Read only for its grammar, as a chain is.
pub(super) fn parse_filter(text: &str) -> Result<Option<String>, ValueFault> {
    if text == "off" {
        return Ok(None);
    }
    let filter = StageSpec::parse_filter(text);
    filter.map(|filter| Some(filter.to_string())).map_err(|error| ValueFault::new(error.at, error.message))
}

pub(super) fn off_text() -> String {
    "off".to_owned()
}

pub(super) fn parse_max_per_peer(text: &str) -> Result<Option<u32>, ValueFault> {
    if text == "off" {
        return Ok(None);
    }
    count_within(text, 1, u32::MAX)
        .map(Some)
        .map_err(|fault| ValueFault::new(fault.at, format!("{}; off is no limit", fault.message)))
}

pub(super) fn parse_max_amplification(text: &str) -> Result<MaxAmplification, ValueFault> {
    match text {
        "auto" => Ok(MaxAmplification::Auto),
        "off" => Ok(MaxAmplification::Off),
        _ => count_within(text, 1, u32::MAX)
            .map(MaxAmplification::Times)
            .map_err(|fault| ValueFault::new(fault.at, format!("{}; or auto, off", fault.message))),
    }
}

pub(super) fn max_amplification_text(limit: MaxAmplification) -> String {
    match limit {
        MaxAmplification::Auto => "auto".to_owned(),
        MaxAmplification::Off => off_text(),
        MaxAmplification::Times(count) => count.to_string(),
    }
}

pub(super) fn parse_allow_uid(text: &str) -> Result<Option<Vec<u32>>, ValueFault> {
    if text == "any" {
        return Ok(None);
    }
    let mut users = parse_list(text, |user| {
        // 2^32 - 1 stands for no user at all (setreuid(2)).
        count_within(user, 0, u32::MAX - 1).map_err(|fault| {
            ValueFault::new(fault.at, format!("a user's number is expected: {}", fault.message))
        })
    })?;
    order_few(&mut users, |one, other| one < other);
    users.dedup();
    Ok(Some(users))
}

pub(super) fn allow_uid_text(users: Option<&[u32]>) -> String {
    users.map_or_else(|| "any".to_owned(), |users| list_text(users, u32::to_string))
}

pub(super) fn parse_min_rate(text: &str) -> Result<Option<MinRate>, ValueFault> {
    if text == "off" {
        return Ok(None);
    }
    let Some((bytes, within)) = text.split_once('/') else {
        return Err(ValueFault::new(text.len(), "a rate is written SIZE/DURATION: 1k/10s; off turns it off"));
    };
    Ok(Some(MinRate {
        bytes: size_within(bytes, 1, u64::MAX)?,
        within: duration_within(within, TIMEOUT_MIN, DURATION_MAX, "")
            .map_err(|fault| fault.shifted(bytes.len() + 1))?,
    }))
}

pub(super) fn min_rate_text(rate: MinRate) -> String {
    format!("{}/{}", size_text(rate.bytes), duration_text(rate.within))
}

pub(super) fn parse_mode(text: &str) -> Result<u32, ValueFault> {
    if text.is_empty() {
        return Err(ValueFault::new(0, "a mode is expected, in octal: 0660"));
    }
    let mut mode: u32 = 0;
    for (offset, letter) in text.char_indices() {
        let Some(digit) = letter.to_digit(8) else {
            return Err(ValueFault::new(offset, "a mode has octal digits, 0 to 7"));
        };
        mode = mode.saturating_mul(8).saturating_add(digit);
    }
    if mode > MODE_MAX {
        return Err(ValueFault::new(0, "out of range: 0 to 0777, in octal"));
    }
    Ok(mode)
}

pub(super) fn parse_proxy(text: &str) -> Result<Option<ProxyVersions>, ValueFault> {
    match text {
        "off" => Ok(None),
        "v1" => Ok(Some(ProxyVersions::V1)),
        "v2" => Ok(Some(ProxyVersions::V2)),
        "any" => Ok(Some(ProxyVersions::Any)),
        _ => Err(ValueFault::new(0, "off, v1, v2 or any is expected")),
    }
}

pub(super) fn proxy_text(versions: Option<ProxyVersions>) -> String {
    match versions {
        None => off_text(),
        Some(ProxyVersions::V1) => "v1".to_owned(),
        Some(ProxyVersions::V2) => "v2".to_owned(),
        Some(ProxyVersions::Any) => "any".to_owned(),
    }
}

pub(super) fn parse_socket_buffer(text: &str) -> Result<u32, ValueFault> {
    // setsockopt takes an int.
    size_within(text, 1, i32::MAX as u64).map(|bytes| bytes as u32)
}

pub(super) fn keepalive_text(keepalive: Keepalive) -> String {
    match keepalive {
        Keepalive::Off => "0".to_owned(),
        Keepalive::On => "1".to_owned(),
        Keepalive::After(idle) => duration_text(idle),
    }
}

/// listen() takes an int.
pub(super) const BACKLOG_MAX: u32 = i32::MAX as u32;
pub(super) const MODE_MAX: u32 = 0o777;
pub(super) const HIGH_WATER_BYTES_MIN: usize = 1 << 10;
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Linux takes 1 to 32767 seconds (MAX_TCP_KEEPIDLE).
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

const _: () = assert!(HIGH_WATER_BYTES_MIN <= MESSAGE_BYTES_CEILING);
