//! Text that stands in a struct of C.

use std::ffi::c_char;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut place = [1 as c_char; 4];
        fill(&mut place, "abä");
        assert_eq!(place.map(|byte| byte as u8), [b'a', b'b', 0, 1]);
        fill(&mut place, "abcdef");
        assert_eq!(place.map(|byte| byte as u8), *b"abc\0");
    }
}
