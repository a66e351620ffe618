//! Numbers for readers.

/// With its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rounded, with its thousands apart.
pub fn whole(number: f64) -> String {
    count(number.max(0.0).round() as u64)
}

/// Three digits or so.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => whole(number),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Microseconds, in the unit that suits.
pub fn time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", short(us)),
        us if us < 999_500.0 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// Microseconds at an axis: without digits that say nothing.
pub fn axis_time(us: f64) -> String {
    let (number, unit) = match us {
        0.0 => return "0".to_owned(),
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", (number * 100.0).round() / 100.0)
}

/// Bytes, in powers of 1000, as networks count.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1e3 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{} kB", short(bytes / 1e3)),
        bytes if bytes < 1e9 => format!("{} MB", short(bytes / 1e6)),
        bytes => format!("{} GB", short(bytes / 1e9)),
    }
}

/// A rate, in the unit that suits an axis.
pub fn rate(number: f64) -> String {
    let trimmed = |number: f64| {
        let text = short(number);
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match number {
        number if number < 1e3 => trimmed(number),
        number if number < 1e6 => format!("{} k", trimmed(number / 1e3)),
        number => format!("{} M", trimmed(number / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let times = [0.5, 12.345, 999.4, 999.6, 1234.5, 2_500_000.0].map(time);
        assert_eq!(times, ["0.50 µs", "12.3 µs", "999 µs", "1.00 ms", "1.23 ms", "2.50 s"]);
        assert_eq!([512.0, 64_000.0, 12.5e9].map(bytes), ["512 B", "64.0 kB", "12.5 GB"]);
        assert_eq!([0.0, 250.0, 150e3, 2.5e6].map(rate), ["0", "250", "150 k", "2.5 M"]);
    }
}
