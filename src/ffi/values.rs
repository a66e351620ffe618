//! Values of C as Rust has them, and the other way.

use std::ffi::c_char;
use std::time::Duration;

use super::error::{Failure, RESAY_E_ARG};

/// Copies `text`, cut at a character and ended by NUL.
pub(super) fn fill(place: &mut [c_char], text: &str) {
    let mut len = text.len().min(place.len().saturating_sub(1));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (to, from) in place.iter_mut().zip(text.as_bytes().iter().take(len).chain([&0])) {
        *to = *from as c_char;
    }
}

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

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut place = [1 as c_char; 4];
        fill(&mut place, "abä");
        assert_eq!(place.map(|byte| byte as u8), [b'a', b'b', 0, 1]);
        fill(&mut place, "abcdef");
        assert_eq!(place.map(|byte| byte as u8), *b"abc\0");
    }
}
