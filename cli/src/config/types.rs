//! Which types of TOML a key takes. The schema and the reader have them from here, so that they agree.

use resay::options::{ENGINE_KEYS, Key, ValueType};
use toml::de::DeValue;

/// Types under their names in JSON Schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Types {
    pub(super) names: &'static [&'static str],
    /// Those of the elements of a list.
    pub(super) elements: &'static [&'static str],
}

impl Types {
    pub(super) const TEXT: Types = Types { names: &["string"], elements: &[] };
    /// One, or several.
    pub(super) const TEXTS: Types = Types { names: &["string", "array"], elements: &["string"] };
    pub(super) const FLAG: Types = Types { names: &["boolean", "integer", "string"], elements: &[] };
    /// A text too: it may hold a unit, a word such as `auto`, or a variable.
    pub(super) const NUMBER: Types = Types { names: &["integer", "string"], elements: &[] };
    pub(super) const LIST: Types =
        Types { names: &["array", "integer", "string"], elements: &["integer", "string"] };
    /// An option of a filter, whose values only that knows.
    pub(super) const FILTER: Types = Types { names: &["string", "integer", "array"], elements: &["string"] };

    /// Those of an option whose value is of this kind and form.
    pub(super) fn of(kind: ValueType, form: &str) -> Types {
        match kind.name {
            "bool" => Types::FLAG,
            "integer" | "size" => Types::NUMBER,
            "duration" if form.contains('|') => Types::FLAG,
            // Nothing else needs no unit.
            "duration" if kind.min == "0" => Types::NUMBER,
            "list" => Types::LIST,
            _ => Types::TEXT,
        }
    }

    /// Those of an option of listeners.
    pub(super) fn of_option(name: &str) -> Types {
        Key::find(name).map_or(Types::TEXT, |key| Types::of(key.kind, key.value))
    }

    /// Those of a key above the tables.
    pub(super) fn of_top(name: &str) -> Types {
        if let Some(key) = ENGINE_KEYS.iter().find(|key| key.name == name) {
            return Types::of(key.kind, key.value);
        }
        match name {
            "sandbox" => Types::FLAG,
            "drain_timeout" | "lame_duck" => Types::NUMBER,
            "plugin_dirs" => Types::TEXTS,
            _ => Types::TEXT,
        }
    }

    /// What is wrong with the type of a value.
    pub(super) fn fault(self, value: &DeValue<'_>) -> Option<String> {
        Types::fault_of(self.names, value)
    }

    /// What is wrong with the type of an element.
    pub(super) fn element_fault(self, value: &DeValue<'_>) -> Option<String> {
        Types::fault_of(self.elements, value)
    }

    fn fault_of(names: &[&str], value: &DeValue<'_>) -> Option<String> {
        if names.contains(&name_of(value)) {
            return None;
        }
        let known = [
            ("string", "a text"),
            ("integer", "a number"),
            ("boolean", "true or false"),
            ("array", "a list"),
        ];
        let mut words: Vec<_> =
            known.iter().filter(|(name, _)| names.contains(name)).map(|(_, word)| *word).collect();
        let last = words.pop().unwrap_or_default();
        let expected =
            if words.is_empty() { last.to_owned() } else { format!("{} or {last}", words.join(", ")) };
        Some(format!("{expected} is expected, not {}", with_article(value.type_str())))
    }
}

fn name_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        // JSON has no name for a date; nothing takes one.
        DeValue::Float(_) | DeValue::Datetime(_) => "number",
    }
}

fn with_article(name: &str) -> String {
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}
