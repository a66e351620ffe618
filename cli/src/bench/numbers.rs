//! Numbers on the command line.

/// A number of connections, messages in flight, threads or rounds.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=CONNECTIONS_MAX) => Ok(number),
        _ => Err(format!("a number from 1 to {CONNECTIONS_MAX}")),
    }
}

/// Messages a second: a number, with `k` for thousands or `m` for millions.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'm']) {
        Some(number) if text.ends_with('k') => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if (RATE_MIN..=RATE_MAX).contains(&(number * factor)) => Ok(number * factor),
        _ => Err(format!("messages a second, such as 500, 50k or 1.5m, from {RATE_MIN} to {RATE_MAX}")),
    }
}

/// Messages a second that may be due.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 10_000_000.0;
/// Connections of one generator, and messages of one that are in flight.
const CONNECTIONS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let table = [("500", 500.0), ("50k", 50_000.0), ("1.5m", 1_500_000.0), ("0.5", 0.5)];
        for (text, rate) in table {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "k", "-1", "0", "nan", "inf", "5g", "11m"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
