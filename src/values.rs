//! Text to values and back: sizes, durations, counts, flags.
//!
//! - A size is a whole number of bytes; `k`, `m` and `g` (either case) are powers of 1024.
//! - A duration is a decimal number with a unit: `us`, `ms`, `s`, `m`, `h`. Only `0` needs none.
//! - A count is a whole number without a unit.

use std::time::Duration;

use crate::limits::MESSAGE_BYTES_CEILING;

/// What is wrong with a value, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueFault {
    /// The byte offset inside the value.
    pub at: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl ValueFault {
    /// A fault at byte `at`.
    pub(crate) fn new(at: usize, message: impl Into<String>) -> ValueFault {
        ValueFault { at, message: message.into() }
    }

    /// The same in a longer text, of which the value begins at byte `start`.
    pub(crate) fn shifted(self, start: usize) -> ValueFault {
        ValueFault { at: start + self.at, ..self }
    }
}

/// Reads a size in bytes: `65536`, `64k`, `1M`.
pub fn parse_size(text: &str) -> Result<u64, ValueFault> {
    size_within(text, 0, u64::MAX)
}

/// Reads a duration of at most a year: `250us`, `1.5s`, `0`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueFault> {
    duration_within(text, Duration::ZERO, DURATION_MAX, "")
}

/// Reads a truth value: `0`, `1`, `false`, `true`, `off` or `on`.
pub fn parse_bool(text: &str) -> Result<bool, ValueFault> {
    match text {
        "0" | "false" | "off" => Ok(false),
        "1" | "true" | "on" => Ok(true),
        _ => Err(ValueFault::new(0, "0 or 1 is expected (also false or true, off or on)")),
    }
}

/// Puts a list in order that a person has written or that a directory has, and keeps the order of what is alike. Each type that the
/// standard library sorts takes 5 to 10 KiB of code; this takes a tenth, and grows with the square of the length.
pub(crate) fn order_few<T>(list: &mut [T], is_before: impl Fn(&T, &T) -> bool) {
    for end in 1..list.len() {
        let (ordered, rest) = list.split_at(end);
        let at = ordered.partition_point(|other| !is_before(&rest[0], other));
        list[at..=end].rotate_right(1);
    }
}

/// The candidate that was probably meant by `word`, in whatever case: a slip of the keys away, or begun with it.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if word.len() > NEAREST_BYTES_MAX {
        return None;
    }
    let word = &*word.to_lowercase();
    let limit = (word.chars().count() / 4 + 1).min(3);
    candidates
        .clone()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
        .or_else(|| candidates.clone().find(|candidate| word.len() >= 3 && candidate.starts_with(word)))
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
pub(crate) fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Rows of the usual table: the one before last, the last, the one being filled.
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut new = vec![row + 1];
        for (column, &wanted) in to.iter().enumerate() {
            let mut cost =
                (old[column] + usize::from(letter != wanted)).min(old[column + 1] + 1).min(new[column] + 1);
            if column > 0 && previous == Some(wanted) && to[column - 1] == letter {
                cost = cost.min(older[column - 1] + 1);
            }
            new.push(cost);
        }
        older = std::mem::replace(&mut old, new);
        previous = Some(letter);
    }
    old[to.len()]
}

pub(crate) fn or_auto<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ValueFault>,
) -> Result<Option<T>, ValueFault> {
    if text == "auto" { Ok(None) } else { read(text).map(Some) }
}

pub(crate) fn count_within(text: &str, least: u32, most: u32) -> Result<u32, ValueFault> {
    let (number, unit) = leading_number(text, "a count")?;
    if !unit.is_empty() {
        return Err(ValueFault::new(text.len() - unit.len(), "a count has digits only"));
    }
    if number < least.into() || number > most.into() {
        return Err(ValueFault::new(0, format!("out of range: {least} to {most}")));
    }
    Ok(number as u32)
}

pub(crate) fn bytes_within(text: &str, least: usize) -> Result<usize, ValueFault> {
    size_within(text, least as u64, MESSAGE_BYTES_CEILING as u64).map(|bytes| bytes as usize)
}

pub(crate) fn size_within(text: &str, least: u64, most: u64) -> Result<u64, ValueFault> {
    let (number, unit) = leading_number(text, "a size")?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => {
            let at = text.len() - unit.len();
            return Err(ValueFault::new(
                at,
                "a size is a whole number, with k, m or g (powers of 1024) or without",
            ));
        }
    };
    let bytes = number.saturating_mul(1 << shift);
    if bytes < least.into() || bytes > most.into() {
        let message = format!("out of range: {} to {} bytes", size_text(least), size_text(most));
        return Err(ValueFault::new(0, message));
    }
    Ok(bytes as u64)
}

/// `remark` ends the message about a value out of range.
pub(crate) fn duration_within(
    text: &str,
    least: Duration,
    most: Duration,
    remark: &str,
) -> Result<Duration, ValueFault> {
    let nanoseconds = duration_nanoseconds(text)?;
    if nanoseconds < least.as_nanos() || nanoseconds > most.as_nanos() {
        let message = format!("out of range: {} to {}{remark}", duration_text(least), duration_text(most));
        return Err(ValueFault::new(0, message));
    }
    // In range, so it fits 64 bits: a year has 3.2e16 nanoseconds.
    Ok(Duration::from_nanos(nanoseconds as u64))
}

pub(crate) fn duration_nanoseconds(text: &str) -> Result<u128, ValueFault> {
    let (whole, rest) = leading_number(text, "a duration")?;
    let (fraction, unit) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = leading_digits(rest);
            if digits.is_empty() {
                return Err(ValueFault::new(text.len() - rest.len(), "a digit is expected after the point"));
            }
            rest.split_at(digits.len())
        }
    };
    let scale: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if whole == 0 && fraction.is_empty() => 1,
        "" => return Err(ValueFault::new(text.len(), "the unit is missing: us, ms, s, m or h")),
        _ => {
            return Err(ValueFault::new(
                text.len() - unit.len(),
                "a duration ends in a unit: us, ms, s, m or h",
            ));
        }
    };
    let significant = fraction.trim_end_matches('0');
    let too_fine = || ValueFault::new(0, "finer than a nanosecond");
    if significant.len() > FRACTION_DIGITS_MAX {
        return Err(too_fine());
    }
    let scaled = digits_value(significant).saturating_mul(scale);
    let divisor = significant.chars().fold(1u128, |divisor, _| divisor * 10);
    if !scaled.is_multiple_of(divisor) {
        return Err(too_fine());
    }
    Ok(whole.saturating_mul(scale).saturating_add(scaled / divisor))
}

/// Reads values with commas between them. A fault is at its place in the whole.
pub(crate) fn parse_list<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, ValueFault>,
) -> Result<Vec<T>, ValueFault> {
    let mut at = 0;
    let each = text.split(',').map(|part| {
        let value = parse(part).map_err(|fault| fault.shifted(at));
        at += part.len() + 1;
        value
    });
    each.collect()
}

pub(crate) fn list_text<T>(values: &[T], text: impl Fn(&T) -> String) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Reads numbers up to `most` and ranges of them: `0-3,6`. They come in order, and apart. `what` names one.
pub(crate) fn parse_ranges(text: &str, most: u16, what: &str) -> Result<Vec<(u16, u16)>, ValueFault> {
    let number = |text: &str| match count_within(text, 0, most.into()) {
        Ok(number) => Ok(number as u16),
        Err(fault) => Err(ValueFault::new(fault.at, format!("{what} is expected: {}", fault.message))),
    };
    let mut ranges = parse_list(text, |range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let from = number(first)?;
        let to = number(last).map_err(|fault| fault.shifted(range.len() - last.len()))?;
        if from > to {
            return Err(ValueFault::new(0, format!("the range is empty; {to}-{from} is not")));
        }
        Ok((from, to))
    })?;
    order_few(&mut ranges, |one, other| one < other);
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    Ok(merged)
}

pub(crate) fn ranges_text(ranges: &[(u16, u16)]) -> String {
    list_text(
        ranges,
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    )
}

/// The number that begins `text`, saturated, and what follows it.
pub(crate) fn leading_number<'a>(text: &'a str, what: &str) -> Result<(u128, &'a str), ValueFault> {
    let digits = leading_digits(text);
    if digits.is_empty() {
        let message = match text {
            "" => format!("{what} is missing here"),
            _ => format!("{what} begins with a digit"),
        };
        return Err(ValueFault::new(0, message));
    }
    let (_, rest) = text.split_at(digits.len());
    Ok((digits_value(digits), rest))
}

pub(crate) fn leading_digits(text: &str) -> &str {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    text.strip_suffix(rest).unwrap_or(text)
}

pub(crate) fn digits_value(digits: &str) -> u128 {
    let digits = digits.chars().filter_map(|letter| letter.to_digit(10));
    digits.fold(0u128, |value, digit| value.saturating_mul(10).saturating_add(digit.into()))
}

pub(crate) fn bool_text(value: bool) -> String {
    if value { "1" } else { "0" }.to_owned()
}

pub(crate) fn auto_text<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "auto".to_owned(), text)
}

/// The shortest exact text of a size.
pub(crate) fn size_text(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        _ if bytes == 0 => "0".to_owned(),
        30.. => format!("{}g", bytes >> 30),
        20.. => format!("{}m", bytes >> 20),
        10.. => format!("{}k", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// The exact text of a duration, in the largest unit that makes it whole: [`parse_duration`] reads the same.
pub fn duration_text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0".to_owned();
    }
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    match units.iter().find(|(scale, _)| nanoseconds.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", nanoseconds / scale),
        None => format!("{}.{:03}us", nanoseconds / 1_000, nanoseconds % 1_000),
    }
}

/// With more digits (zeros at the end aside) no part of an hour is a whole number of nanoseconds.
const FRACTION_DIGITS_MAX: usize = 13;
/// A longer word is not a slip of the keys; it also bounds the work.
const NEAREST_BYTES_MAX: usize = 32;
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const _: () = assert!(DURATION_MAX.as_nanos() <= u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_things_are_put_in_order_and_keep_theirs_where_they_are_alike() {
        for list in [vec![], vec![3], vec![2, 1], vec![5, 1, 4, 1, 3, 3, 2, 9, 0]] {
            let (mut ours, mut sorted) = (list.clone(), list);
            order_few(&mut ours, |one, other| one < other);
            sorted.sort();
            assert_eq!(ours, sorted);
        }
        let mut pairs = [(1, 'a'), (0, 'b'), (1, 'c'), (0, 'd'), (1, 'e')];
        order_few(&mut pairs, |one, other| one.0 < other.0);
        assert_eq!(pairs.map(|(_, name)| name), ['b', 'd', 'a', 'c', 'e']);
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, canonical) in [("0", "0"), ("3,1,2,0,6", "0-3,6"), ("0-3,6,7-9", "0-3,6-9"), ("5-5", "5")]
        {
            assert_eq!(ranges_text(&parse_ranges(text, 1023, "one").unwrap()), canonical, "{text:?}");
        }
        for (text, at) in [
            ("", 0),
            (",", 0),
            ("0,", 2),
            ("x", 0),
            ("1024", 0),
            ("0,3-1", 2),
            ("0-", 2),
            ("0-1024", 2),
            ("-1", 0),
            ("+1", 0),
        ] {
            assert_eq!(parse_ranges(text, 1023, "one").unwrap_err().at, at, "{text:?}");
        }
    }
}
