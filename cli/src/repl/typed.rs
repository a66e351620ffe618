//! What is typed at a terminal: data with escapes, or an order to `repl` itself.

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Bytes to send.
    Data(Vec<u8>),
    /// Show answers in hexadecimal, or no longer.
    Hex(bool),
    Help,
}

pub(crate) const HELP: &str = "\
\\xNN     the byte with this hexadecimal number
\\n \\r \\t \\0   newline, carriage return, tab, the byte 0
\\\\ \\:    a backslash, a colon
:hex on | off   show answers in hexadecimal
:help    this
Ctrl-D   leave";

impl Typed {
    /// Reads a line; the error says what is wrong with it.
    pub(crate) fn read(line: &str) -> Result<Typed, String> {
        let Some(order) = line.strip_prefix(':') else { return unescape(line).map(Typed::Data) };
        match order.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["hex", "on"] => Ok(Typed::Hex(true)),
            ["hex", "off"] => Ok(Typed::Hex(false)),
            ["help"] => Ok(Typed::Help),
            _ => Err(format!(
                "unknown order {line:?}; there are :hex on, :hex off and :help, and \\: sends a colon"
            )),
        }
    }
}

fn unescape(line: &str) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((text, escape)) = rest.split_once('\\') {
        data.extend_from_slice(text.as_bytes());
        let mut letters = escape.chars();
        let byte = match letters.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some(letter @ ('\\' | ':')) => letter as u8,
            Some('x') => {
                let digits =
                    escape.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                letters = escape.get(3..).unwrap_or_default().chars();
                digits
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| r"\x takes two hexadecimal digits, as in \x0a".to_owned())?
            }
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!(
                    r"unknown escape \{other}; there are \xNN \n \r \t \0 \: and \\ for a backslash"
                ));
            }
        };
        data.push(byte);
        rest = letters.as_str();
    }
    data.extend_from_slice(rest.as_bytes());
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes() {
        let table: [(&str, &[u8]); 9] = [
            ("plain é", "plain é".as_bytes()),
            (r"\x00\xfF", b"\x00\xff"),
            (r"a\x41b", b"aAb"),
            (r"\n\r\t\0", b"\n\r\t\0"),
            (r"\\x00", br"\x00"),
            (r"\:hex on", b":hex on"),
            ("a:hex on", b"a:hex on"),
            (r"\0\\", b"\0\\"),
            (r"é\x0aé", b"\xc3\xa9\n\xc3\xa9"),
        ];
        for (line, data) in table {
            assert_eq!(Typed::read(line), Ok(Typed::Data(data.to_vec())), "{line}");
        }
        for line in [r"\", r"\x", r"\x1", r"\xg0", r"\x+1", r"\é", r"\xé1", r"C:\new\dir"] {
            assert!(Typed::read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_colon_begins_an_order() {
        assert_eq!(Typed::read(":hex on"), Ok(Typed::Hex(true)));
        assert_eq!(Typed::read(":hex  off "), Ok(Typed::Hex(false)));
        assert_eq!(Typed::read(":help"), Ok(Typed::Help));
        for line in [":", ":hex", ":hex maybe", ":quit", "::"] {
            assert!(Typed::read(line).unwrap_err().contains(":hex on"), "{line}");
        }
    }
}
