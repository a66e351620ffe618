//! Writes JSON with its members in the order in which they are given, and what fits on one line on one.

use std::fmt;

/// A value. Nothing here is ever null.
#[derive(Debug)]
pub(crate) enum Json {
    Text(String),
    Number(i64),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

const LINE_COLUMNS: usize = 120;

pub(crate) fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

pub(crate) fn number(number: usize) -> Json {
    Json::Number(i64::try_from(number).unwrap())
}

pub(crate) fn object(members: Vec<(&'static str, Json)>) -> Json {
    Json::Object(members)
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(0))
    }
}

impl Json {
    fn written(&self, indent: usize) -> String {
        let flat = self.flat();
        if indent > 0 && indent + flat.chars().count() <= LINE_COLUMNS {
            return flat;
        }
        let (open, close, parts): (_, _, Vec<_>) = match self {
            Json::List(list) => ('[', ']', list.iter().map(|part| part.written(indent + 1)).collect()),
            Json::Object(members) => {
                let member =
                    |(name, value): &(&str, Json)| format!("{}: {}", quoted(name), value.written(indent + 1));
                ('{', '}', members.iter().map(member).collect())
            }
            _ => return flat,
        };
        let margin = " ".repeat(indent);
        let parts: Vec<_> = parts.iter().map(|part| format!("\n{margin} {part}")).collect();
        format!("{open}{}\n{margin}{close}", parts.join(","))
    }

    fn flat(&self) -> String {
        match self {
            Json::Text(text) => quoted(text),
            Json::Number(number) => number.to_string(),
            Json::List(list) => format!("[{}]", list.iter().map(Json::flat).collect::<Vec<_>>().join(", ")),
            Json::Object(members) => {
                let member = |(name, value): &(&str, Json)| format!("{}: {}", quoted(name), value.flat());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter if u32::from(letter) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
