//! JSON objects, written (RFC 8259).

use core::fmt::Write;

/// An object under way: its fields, without the braces.
#[derive(Debug, Default)]
pub(crate) struct Object {
    fields: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A text, or null.
    pub(crate) fn text(&mut self, name: &str, value: Option<&str>) {
        self.name(name);
        match value {
            Some(value) => write_text(&mut self.fields, value),
            None => self.fields.push_str("null"),
        }
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.fields, "{value}"); // a String takes everything
    }

    pub(crate) fn object(&mut self, name: &str, value: Object) {
        self.name(name);
        self.fields.push_str(&value.into_text());
    }

    /// Fields of another object.
    pub(crate) fn fields(&mut self, fields: &str) {
        if !self.fields.is_empty() && !fields.is_empty() {
            self.fields.push(',');
        }
        self.fields.push_str(fields);
    }

    pub(crate) fn into_fields(self) -> String {
        self.fields
    }

    pub(crate) fn into_text(self) -> String {
        format!("{{{}}}", self.fields)
    }

    fn name(&mut self, name: &str) {
        if !self.fields.is_empty() {
            self.fields.push(',');
        }
        write_text(&mut self.fields, name);
        self.fields.push(':');
    }
}

/// A string: quotes, backslashes and control characters are escaped.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // DEL and the line ends of Unicode may stand as they are, but are better not seen raw in a log.
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character)); // a String takes everything
            }
            character => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        assert_eq!(Object::new().into_text(), "{}");
        let mut inner = Object::new();
        inner.text("x", None);
        let mut outer = Object::new();
        outer.fields("");
        outer.number("n", u64::MAX);
        outer.object("o", inner);
        outer.fields(r#""more":1"#);
        assert_eq!(outer.into_text(), r#"{"n":18446744073709551615,"o":{"x":null},"more":1}"#);
    }

    #[test]
    fn escapes() {
        for (text, expected) in [
            ("", r#""""#),
            ("plain größe 𐐨 /", r#""plain größe 𐐨 /""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\r\t", r#""\n\r\t""#),
            ("\0\u{8}\u{1f}\u{7f}\u{2028}\u{2029}", r#""\u0000\u0008\u001f\u007f\u2028\u2029""#),
        ] {
            let mut out = String::new();
            write_text(&mut out, text);
            assert_eq!(out, expected);
        }
    }
}
