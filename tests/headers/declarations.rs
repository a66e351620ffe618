//! Reads what a header of Resay declares. It knows the forms that cbindgen writes and fails on every other, so nothing is
//! left out in silence.

use std::collections::BTreeMap;

/// One thing that a header gives a name.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Without the marks of the comment.
    pub(crate) doc: String,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// A constant, and its C type.
    Number(i64, &'static str),
    /// A constant text.
    Text(String),
    /// A struct that only the library sees into.
    Opaque,
    Struct(Vec<Declared>),
    /// A typedef, of a function where the type has a signature.
    Alias(Type),
    Function(Signature),
}

/// A field or a parameter.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) what: Type,
}

/// A type without the word `struct`: each has a typedef of the same name.
#[derive(Debug)]
pub(crate) struct Type {
    /// `const uint8_t *`; of a pointer to a function, what that returns.
    pub(crate) text: String,
    /// Of a pointer to a function: what it takes.
    pub(crate) parameters: Option<Vec<Declared>>,
    /// Of an array: the number of its elements.
    pub(crate) count: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) returns: String,
    pub(crate) parameters: Vec<Declared>,
}

/// The items of a header in their order. Macros that are no constants, what only C++ sees, and the function that plugins
/// define are not among them.
pub(crate) fn read(header: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut numbers = BTreeMap::new();
    let mut doc = String::new();
    let mut declaration: Vec<Token> = Vec::new();
    let mut depth = 0;
    for token in tokens(header)? {
        match token {
            Token::Doc(text) if declaration.is_empty() => doc = text,
            Token::Macro => doc.clear(),
            Token::Constant(name, value) => {
                let kind = constant(&value).ok_or_else(|| format!("#define {name} {value}: no constant"))?;
                if let Kind::Number(value, _) = kind {
                    numbers.insert(name.clone(), value);
                }
                items.push(Item { name, doc: std::mem::take(&mut doc), kind });
            }
            Token::Mark(';') if depth == 0 => {
                let doc = std::mem::take(&mut doc);
                let whole = std::mem::take(&mut declaration);
                if whole.first().is_some_and(|first| first.is("RESAY_EXPORT")) {
                    continue;
                }
                let (name, kind) =
                    item(&whole, &numbers).map_err(|reason| format!("{}: {reason}", shown(&whole)))?;
                items.push(Item { name, doc, kind });
            }
            token => {
                match token {
                    Token::Mark('{' | '(') => depth += 1,
                    Token::Mark('}' | ')') => depth -= 1,
                    _ => {}
                }
                declaration.push(token);
            }
        }
    }
    if declaration.is_empty() { Ok(items) } else { Err(format!("{}: no end", shown(&declaration))) }
}

#[derive(Debug, Clone)]
enum Token {
    Word(String),
    Mark(char),
    Doc(String),
    Constant(String, String),
    /// A directive of the preprocessor that is no constant.
    Macro,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        match self {
            Token::Word(word) => word == text,
            Token::Mark(mark) => text.chars().eq([*mark]),
            _ => false,
        }
    }
}

fn shown(tokens: &[Token]) -> String {
    let parts = tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Mark(mark) => Some(mark.to_string()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// What a C compiler sees, other than the guard, between `#if` and `#endif` is for some languages or compilers only.
fn tokens(header: &str) -> Result<Vec<Token>, String> {
    let text = header.replace("\\\n", " ");
    let mut rest = text.as_str();
    let mut found = Vec::new();
    // The outermost `#ifndef` is the guard.
    let mut conditions = 0;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("/*") {
            let (comment, after) = comment.split_once("*/").ok_or("a comment has no end")?;
            if let Some(doc) = comment.strip_prefix('*')
                && conditions <= 1
            {
                found.push(Token::Doc(cleaned(doc)));
            }
            rest = after;
        } else if first == '#' {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            if line.starts_with("#if") {
                conditions += 1;
            } else if line.starts_with("#endif") {
                conditions -= 1;
            }
            if conditions <= 1 {
                found.push(directive(line));
            }
        } else {
            let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (token, after) = rest.split_at(word.max(first.len_utf8()));
            rest = after;
            if conditions <= 1 && word > 0 {
                found.push(Token::Word(token.to_owned()));
            } else if conditions <= 1 && !first.is_whitespace() {
                found.push(Token::Mark(first));
            }
        }
    }
    Ok(found)
}

fn cleaned(doc: &str) -> String {
    let lines = doc.trim().lines().map(str::trim_start);
    let lines =
        lines.map(|line| line.strip_prefix('*').map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest)));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn directive(line: &str) -> Token {
    let definition = line.strip_prefix("#define ").and_then(|text| text.trim().split_once(' '));
    match definition {
        Some((name, value)) if !name.contains('(') => {
            Token::Constant(name.to_owned(), value.trim().to_owned())
        }
        _ => Token::Macro,
    }
}

fn constant(value: &str) -> Option<Kind> {
    if let Some(text) = value.strip_prefix('"') {
        return text
            .strip_suffix('"')
            .filter(|text| !text.contains(['"', '\\']))
            .map(|text| Kind::Text(text.to_owned()));
    }
    match value.strip_suffix('u') {
        Some(digits) => Some(Kind::Number(digits.parse::<u32>().ok()?.into(), "uint32_t")),
        None => Some(Kind::Number(value.parse::<i32>().ok()?.into(), "int32_t")),
    }
}

fn item(tokens: &[Token], numbers: &BTreeMap<String, i64>) -> Result<(String, Kind), String> {
    let [first, rest @ ..] = tokens else { return Err("nothing is declared".to_owned()) };
    if !first.is("typedef") {
        let open = tokens.iter().position(|token| token.is("(")).ok_or("neither a type nor a function")?;
        let function = named(&tokens[..open], numbers)?;
        let parameters = parameters(&tokens[open..], numbers)?;
        return Ok((function.name, Kind::Function(Signature { returns: function.what.text, parameters })));
    }
    match rest {
        [word, Token::Word(tag), Token::Word(name)] if word.is("struct") && tag == name => {
            Ok((name.clone(), Kind::Opaque))
        }
        [word, Token::Word(tag), open, fields @ .., close, Token::Word(name)]
            if word.is("struct") && tag == name && open.is("{") && close.is("}") =>
        {
            let mut found = Vec::new();
            for field in fields.split(|token| token.is(";")).filter(|field| !field.is_empty()) {
                let (doc, field) = match field {
                    [Token::Doc(doc), field @ ..] => (doc.clone(), field),
                    field => (String::new(), field),
                };
                found.push(Declared { doc, ..named(field, numbers)? });
            }
            Ok((name.clone(), Kind::Struct(found)))
        }
        other => {
            let alias = named(other, numbers)?;
            Ok((alias.name, Kind::Alias(alias.what)))
        }
    }
}

/// A type with a name in it: `const uint8_t *data`, `char message[8]`, `void (*end)(void *user)`.
fn named(tokens: &[Token], numbers: &BTreeMap<String, i64>) -> Result<Declared, String> {
    let declared = |name: &str, what| Declared { name: name.to_owned(), doc: String::new(), what };
    if let Some(open) = tokens.iter().position(|token| token.is("(")) {
        return match &tokens[open..] {
            [_, star, Token::Word(name), close, list @ ..] if star.is("*") && close.is(")") => {
                let parameters = Some(parameters(list, numbers)?);
                Ok(declared(name, Type { text: written(&tokens[..open])?, parameters, count: None }))
            }
            _ => Err("no pointer to a function".to_owned()),
        };
    }
    let (tokens, count) = match tokens {
        [before @ .., open, Token::Word(count), close] if open.is("[") && close.is("]") => {
            let number = count.parse().ok().or_else(|| usize::try_from(*numbers.get(count)?).ok());
            (before, Some(number.ok_or_else(|| format!("{count}: no number"))?))
        }
        _ => (tokens, None),
    };
    match tokens {
        [before @ .., Token::Word(name)] => {
            Ok(declared(name, Type { text: written(before)?, parameters: None, count }))
        }
        _ => Err("no name".to_owned()),
    }
}

/// `(const void *data, size_t len)`
fn parameters(tokens: &[Token], numbers: &BTreeMap<String, i64>) -> Result<Vec<Declared>, String> {
    let [open, inner @ .., close] = tokens else { return Err("no parameters".to_owned()) };
    if !open.is("(") || !close.is(")") {
        return Err("no list of parameters".to_owned());
    }
    if let [only] = inner
        && only.is("void")
    {
        return Ok(Vec::new());
    }
    let mut depth = 0;
    let parts = inner.split(|token| {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth -= 1,
            _ => {}
        }
        depth == 0 && token.is(",")
    });
    parts.map(|part| named(part, numbers)).collect()
}

/// The text of a type.
fn written(tokens: &[Token]) -> Result<String, String> {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Mark('*') if text.ends_with('*') => text.push('*'),
            Token::Mark('*') => text.push_str(" *"),
            Token::Word(word) if word == "struct" => {}
            Token::Word(word) if matches!(word.as_str(), "extern" | "static" | "inline") => {
                return Err(format!("{word}: nothing that the library has"));
            }
            Token::Word(word) => {
                if !text.is_empty() && !text.ends_with('*') {
                    text.push(' ');
                }
                text.push_str(word);
            }
            Token::Doc(_) => {}
            _ => return Err(format!("{}: no type", shown(tokens))),
        }
    }
    if text.is_empty() { Err("no type before the name".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_know_is_an_error() {
        for (header, reason) in [
            ("union u { int a; };", "neither"),
            ("int f(int);", "no type before the name"),
            ("typedef struct a { int b : 3; } a;", "no type"),
            ("extern int f(int a);", "nothing that the library has"),
            ("#define A 1.5\n", "no constant"),
            ("#define A 4294967295\n", "no constant"),
            ("int f(void", "no end"),
            ("/* ", "no end"),
        ] {
            let error = read(header).unwrap_err();
            assert!(error.contains(reason), "{header:?}: {error:?}");
        }
    }

    #[test]
    fn types_are_written_with_their_typedefs() {
        let header = "#ifndef H\n#define N 2\n/** It.\n * Twice. */\nint f(const struct a *const *b, void (*c)(void *d));\n\
                      typedef struct s {\n/** One. */\nchar e[N];\n} s;\n#if X\nnothing\n#endif\n#endif\n";
        let items = read(header).unwrap();
        let [n, f, s] = &items[..] else { panic!("{items:?}") };
        assert!(matches!(n.kind, Kind::Number(2, "int32_t")));
        assert_eq!(f.doc, "It.\nTwice.");
        let Kind::Function(signature) = &f.kind else { panic!("{f:?}") };
        assert_eq!(signature.parameters[0].what.text, "const a *const *");
        let inner = signature.parameters[1].what.parameters.as_ref().unwrap();
        assert_eq!((inner[0].name.as_str(), inner[0].what.text.as_str()), ("d", "void *"));
        let Kind::Struct(fields) = &s.kind else { panic!("{s:?}") };
        assert_eq!((fields[0].doc.as_str(), fields[0].what.count), ("One.", Some(2)));
    }
}
