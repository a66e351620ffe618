//! Times of C as Rust has them.

use std::time::Duration;

use super::error::{Failure, RESAY_E_ARG};

/// A timeout in milliseconds; -1: none. Other negative numbers are refused: a time that is over already, as the difference of
/// two clocks may be, would wait for ever.
pub(super) fn timeout_of(milliseconds: i32) -> Result<Option<Duration>, Failure> {
    match u64::try_from(milliseconds) {
        Ok(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        Err(_) if milliseconds == -1 => Ok(None),
        Err(_) => {
            let message = format!("timeout_ms is {milliseconds}: -1 stands for no limit, 0 for no waiting");
            Err(Failure::new(RESAY_E_ARG, message))
        }
    }
}

/// For ever, as far as a condition variable can count.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_negative_number_is_no_limit() {
        assert_eq!(timeout_of(-1).unwrap(), None);
        assert_eq!(timeout_of(0).unwrap(), Some(Duration::ZERO));
        assert_eq!(timeout_of(i32::MAX).unwrap(), Some(Duration::from_millis(i32::MAX as u64)));
        for negative in [-2, -1000, i32::MIN] {
            assert_eq!(timeout_of(negative).unwrap_err().code, RESAY_E_ARG);
        }
    }
}
