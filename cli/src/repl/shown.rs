//! How answers are shown.

use std::fmt::Write;

/// An answer as a terminal may see it: of control characters only newlines and tabs, and no newline at the
/// end, which the terminal gets anyway. All other bytes stand as they can be typed: `\xNN`.
pub(crate) fn visible(answer: &[u8]) -> String {
    let answer = answer.strip_suffix(b"\n").unwrap_or(answer);
    let mut text = String::with_capacity(answer.len());
    for chunk in answer.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' | '\t' => text.push(letter),
                _ if letter.is_control() => {
                    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                        // Writing to a String does not fail.
                        let _ = write!(text, "\\x{byte:02x}");
                    }
                }
                _ => text.push(letter),
            }
        }
        text += &chunk.invalid().escape_ascii().to_string();
    }
    text
}

/// Bytes of a line of the hexadecimal view.
const LINE_BYTES: usize = 16;

/// An answer in hexadecimal: where a line begins, its bytes, and those that are letters. As `hexdump -C`.
pub(crate) fn hexadecimal(answer: &[u8]) -> String {
    if answer.is_empty() {
        return "(no bytes)".to_owned();
    }
    let line = |(number, bytes): (usize, &[u8])| {
        let mut hex = String::new();
        for (place, byte) in bytes.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(hex, "{}{byte:02x} ", if place == LINE_BYTES / 2 { " " } else { "" });
        }
        let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let letters: String =
            bytes.iter().map(|&byte| if is_shown(byte) { char::from(byte) } else { '.' }).collect();
        format!("{:08x}  {hex:<width$} |{letters}|", number * LINE_BYTES, width = 3 * LINE_BYTES + 1)
    };
    answer.chunks(LINE_BYTES).enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_command_the_terminal() {
        assert_eq!(visible(b"a\tb\nc\n"), "a\tb\nc");
        assert_eq!(visible(b"\x1b[2J\r\xff\xc3\xa9"), "\\x1b[2J\\x0d\\xffé");
        assert_eq!(visible(b"a\0b\xc2\x9bc"), "a\\x00b\\xc2\\x9bc");
        assert_eq!(visible(b""), "");
    }

    #[test]
    fn the_hexadecimal_view_has_every_byte() {
        assert_eq!(
            hexadecimal(b"\x00\x1b[2J 16 bytes...\xffz\n"),
            "00000000  00 1b 5b 32 4a 20 31 36  20 62 79 74 65 73 2e 2e  |..[2J 16 bytes..|\n\
             00000010  2e ff 7a 0a                                       |..z.|"
        );
        assert_eq!(hexadecimal(b""), "(no bytes)");
    }
}
