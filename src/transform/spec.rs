//! The grammar of chains: `uppercase | delay:time=20ms,jitter=5ms | ./libmine.so#second:text="a, b"`.
//!
//! ```text
//! chain   = [ stage *( "|" stage ) ]            blanks around a stage mean nothing
//! stage   = target [ ":" option *( "," option ) ]
//! target  = name / path [ "#" name ]            a path has a "/" in it; one with a blank, a quote
//!                                               or one of | : # is quoted
//! name    = a-z 0-9, then also . _ -
//! option  = key "=" value
//! key     = a-z, then also 0-9 _
//! value   = 1*bare / quoted                     bare: no blank, comma, bar, quote, control character
//! quoted  = '...' (as it stands) / "..." (with \" \\ \n \t \xNN)
//! ```
//!
//! Reading is pure: which transform a name stands for, and whether a file exists, is for the registry.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Place, SpecError};

/// A chain as it was written: its stages in the order in which messages pass them.
///
/// Equality includes the offsets. To compare what two chains mean, compare their canonical texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainSpec {
    /// The stages; none is the plain echo.
    pub stages: Vec<StageSpec>,
}

/// One transform of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSpec {
    /// The byte offset of the stage in the text.
    pub at: usize,
    /// Which transform.
    pub target: Target,
    /// How it is set up, in the order written; no key stands twice.
    pub options: Vec<OptionSpec>,
}

/// How a stage names its transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name, to be looked up.
    Name(String),
    /// A shared library.
    File {
        /// The file; its text has a `/` in it.
        path: PathBuf,
        /// Which transform of the file; `None` where it has only one.
        id: Option<String>,
    },
}

/// One `key=value` of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// The key.
    pub key: String,
    /// The value, unquoted. Bytes, since `"\xff"` is one.
    pub value: Vec<u8>,
    /// The byte offset of the key in the text.
    pub key_at: usize,
    /// The byte offset of the value, or of its quote, in the text.
    pub value_at: usize,
}

impl ChainSpec {
    /// Reads a chain. Empty or blank text is a chain without stages.
    pub fn parse(text: &str) -> Result<ChainSpec, SpecError> {
        let mut reader = Reader { text, at: 0, repeats: false };
        let mut stages = Vec::new();
        reader.skip_blanks();
        if reader.peek().is_none() {
            return Ok(ChainSpec { stages });
        }
        loop {
            reader.skip_blanks();
            stages.push(reader.stage()?);
            reader.skip_blanks();
            if reader.peek().is_none() {
                return Ok(ChainSpec { stages });
            }
            if !reader.eat('|') {
                return Err(reader.fault(
                    "unexpected: options follow a colon (name:key=value,key=value), a bar separates stages",
                ));
            }
        }
    }
}

impl StageSpec {
    /// What the words of a transform that refuses its options are about: the key of an option that it does not know, the value of
    /// one that it names, or the stage.
    pub(crate) fn place_of(&self, reason: &str) -> Place {
        match self.options.iter().find(|option| is_about(reason, &option.key)) {
            Some(option) if is_unknown(reason) => Place::new(option.key_at, option.key.len()),
            Some(option) => Place::new(option.value_at, option.value.len().max(1)),
            None => Place::new(self.at, self.target.to_string().len()),
        }
    }

    /// The filter of `tls` addresses, without options.
    pub(crate) fn tls() -> StageSpec {
        StageSpec { at: 0, target: Target::Name("tls".to_owned()), options: Vec::new() }
    }

    /// Reads a filter, which is written as one stage of a chain; its options may be given several times.
    pub fn parse_filter(text: &str) -> Result<StageSpec, SpecError> {
        let mut reader = Reader { text, at: 0, repeats: true };
        reader.skip_blanks();
        if reader.peek().is_none() {
            return Err(reader.fault("a filter is missing here, for example tls:cert=/etc/echo.pem"));
        }
        let stage = reader.stage()?;
        reader.skip_blanks();
        match reader.peek() {
            None => Ok(stage),
            Some(_) => Err(reader.fault("unexpected: a filter is one name, a colon and its options")),
        }
    }
}

/// Whether a transform's words name an option of that key. The declared ones may be listed behind.
pub fn is_about(reason: &str, key: &str) -> bool {
    let told = reason.find("option ").and_then(|at| reason.get(at + "option ".len()..));
    told.is_some_and(|told| [format!("{key:?}"), format!("'{key}'")].iter().any(|key| told.starts_with(key)))
}

/// Whether a transform's words say that it does not know an option.
pub fn is_unknown(reason: &str) -> bool {
    reason.contains("unknown option")
}

impl std::str::FromStr for ChainSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<ChainSpec, SpecError> {
        ChainSpec::parse(text)
    }
}

/// The canonical text, which reads as the same chain.
impl fmt::Display for ChainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            stage.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for StageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        for (index, option) in self.options.iter().enumerate() {
            f.write_str(if index == 0 { ":" } else { "," })?;
            option.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Name(name) => f.write_str(name),
            Target::File { path, id } => {
                write_path(f, path)?;
                id.iter().try_for_each(|id| write!(f, "#{id}"))
            }
        }
    }
}

impl fmt::Display for OptionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.key)?;
        match std::str::from_utf8(&self.value) {
            Ok(text) if !text.is_empty() && text.chars().all(is_bare) => f.write_str(text),
            _ => write_quoted(f, &self.value),
        }
    }
}

/// A place in the text. Every method leaves `at` on a character's first byte, or at the end.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Keys may stand several times.
    repeats: bool,
}

impl<'a> Reader<'a> {
    fn stage(&mut self) -> Result<StageSpec, SpecError> {
        let at = self.at;
        let target = match self.peek() {
            None => return Err(self.fault("a stage is missing after the bar")),
            Some('|') => return Err(self.fault("a stage is missing before this bar")),
            Some('\'' | '"') => self.quoted_file()?,
            Some(_) => self.bare_target()?,
        };
        let mut options = Vec::new();
        if self.eat(':') {
            self.options(&target, &mut options)?;
        }
        Ok(StageSpec { at, target, options })
    }

    fn quoted_file(&mut self) -> Result<Target, SpecError> {
        let at = self.at;
        let path = self.quoted()?;
        if !path.contains(&b'/') {
            return Err(
                self.fault_at(at, "only a file is quoted, and a file has a / in it: \"./my file.so\"")
            );
        }
        if path.contains(&0) {
            return Err(self.fault_at(at, "a file's name cannot contain NUL"));
        }
        self.file(PathBuf::from(OsString::from_vec(path)))
    }

    fn bare_target(&mut self) -> Result<Target, SpecError> {
        let at = self.at;
        let text = self.run(is_bare_target);
        if text.contains('/') {
            if let Some((offset, _)) = text.char_indices().find(|(_, letter)| letter.is_control()) {
                return Err(self.fault_at(at + offset, CONTROL));
            }
            return self.file(PathBuf::from(text));
        }
        self.check_name(at, text)?;
        if self.peek() == Some('#') {
            return Err(self.fault("only a file is followed by #; a file has a / in it: ./libmine.so#second"));
        }
        Ok(Target::Name(text.to_owned()))
    }

    /// The rest of a file after its path.
    fn file(&mut self, path: PathBuf) -> Result<Target, SpecError> {
        if matches!(self.peek(), Some('\'' | '"')) {
            return Err(self.fault("quote the whole path"));
        }
        if !self.eat('#') {
            return Ok(Target::File { path, id: None });
        }
        let at = self.at;
        let id = self.run(is_bare_target);
        self.check_name(at, id)?;
        Ok(Target::File { path, id: Some(id.to_owned()) })
    }

    /// Checks `name`, which stands at `at`.
    fn check_name(&self, at: usize, name: &str) -> Result<(), SpecError> {
        if name.is_empty() {
            return Err(self.fault_at(at, "a name is missing here"));
        }
        let wrong = name.char_indices().find(|&(offset, letter)| {
            !(letter.is_ascii_lowercase()
                || letter.is_ascii_digit()
                || (offset > 0 && matches!(letter, '.' | '_' | '-')))
        });
        match wrong {
            None => Ok(()),
            Some((0, '.' | '_' | '-')) => Err(self.fault_at(at, "a name begins with a-z or 0-9")),
            Some((offset, _)) => {
                let message = "a name has a-z, 0-9, '.', '_' and '-'; a file has a / in it: ./libMine.so";
                Err(self.fault_at(at + offset, message))
            }
        }
    }

    fn options(&mut self, target: &Target, options: &mut Vec<OptionSpec>) -> Result<(), SpecError> {
        loop {
            let option = self.option(target)?;
            if !self.repeats && options.iter().any(|earlier| earlier.key == option.key) {
                return Err(self.fault_at(option.key_at, format!("{} is given twice", option.key)));
            }
            options.push(option);
            if !self.eat(',') {
                return Ok(());
            }
        }
    }

    fn option(&mut self, target: &Target) -> Result<OptionSpec, SpecError> {
        let key_at = self.at;
        let key = self.run(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        if !key.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            let message = match self.peek() {
                _ if !key.is_empty() => "a key begins with a-z",
                Some('|' | ',') | None => "an option is missing here: key=value",
                Some(letter) if letter.is_whitespace() => {
                    "key=value is expected here, without a blank before it"
                }
                Some('/') if matches!(target, Target::File { .. }) => COLON_IN_PATH,
                Some(_) => "a key has a-z, 0-9 and _: key=value",
            };
            return Err(self.fault_at(key_at, message));
        }
        if !self.eat('=') {
            return Err(self.fault(match self.peek() {
                Some('|' | ',') | None => "the value is missing: an option is written key=value",
                Some(letter) if letter.is_whitespace() => {
                    "the value is missing: an option is written key=value"
                }
                Some('/' | '.' | ':') if matches!(target, Target::File { .. }) => COLON_IN_PATH,
                Some(_) => "a key has a-z, 0-9 and _, and = follows it: key=value",
            }));
        }
        let value_at = self.at;
        let value = match self.peek() {
            Some('\'' | '"') => self.quoted()?,
            _ => self.bare_value()?,
        };
        Ok(OptionSpec { key: key.to_owned(), value, key_at, value_at })
    }

    fn bare_value(&mut self) -> Result<Vec<u8>, SpecError> {
        let value = self.run(is_bare);
        match self.peek() {
            Some('\'' | '"') => Err(self.fault("quote the whole value")),
            Some(letter) if letter.is_control() && !letter.is_whitespace() => Err(self.fault(CONTROL)),
            _ if value.is_empty() => Err(self.fault("the value is missing; an empty one is written ''")),
            _ => Ok(value.as_bytes().to_vec()),
        }
    }

    /// A quoted text, without its quotes.
    fn quoted(&mut self) -> Result<Vec<u8>, SpecError> {
        let open = self.at;
        let Some(quote) = self.take() else {
            return Err(self.fault("a quote is expected"));
        };
        let mut bytes = Vec::new();
        loop {
            let at = self.at;
            match self.take() {
                None => return Err(self.fault_at(open, "this quote is never closed")),
                Some(letter) if letter == quote => return Ok(bytes),
                Some('\\') if quote == '"' => match self.escape() {
                    Some(byte) => bytes.push(byte),
                    None => {
                        let message =
                            r#"unknown escape; there are \" \\ \n \t and \xNN with two hexadecimal digits"#;
                        return Err(self.fault_at(at, message));
                    }
                },
                Some(letter) => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// What stands after a backslash.
    fn escape(&mut self) -> Option<u8> {
        match self.take()? {
            '"' => Some(b'"'),
            '\\' => Some(b'\\'),
            'n' => Some(b'\n'),
            't' => Some(b'\t'),
            'x' => {
                let high = self.take()?.to_digit(16)?;
                let low = self.take()?.to_digit(16)?;
                u8::try_from(high << 4 | low).ok()
            }
            _ => None,
        }
    }

    fn skip_blanks(&mut self) {
        self.run(char::is_whitespace);
    }

    /// The longest text from here on of which every character is `wanted`.
    fn run(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let tail = rest.trim_start_matches(wanted);
        self.at += rest.len() - tail.len();
        rest.strip_suffix(tail).unwrap_or(rest)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault(&self, message: impl Into<String>) -> SpecError {
        self.fault_at(self.at, message)
    }

    fn fault_at(&self, at: usize, message: impl Into<String>) -> SpecError {
        SpecError::new("chain", self.text, at, message)
    }
}

/// May stand in a value without quotes.
fn is_bare(letter: char) -> bool {
    !letter.is_whitespace() && !letter.is_control() && !matches!(letter, ',' | '|' | '\'' | '"')
}

/// Belongs to a name or to a path without quotes, though perhaps wrongly: where a target ends.
fn is_bare_target(letter: char) -> bool {
    !letter.is_whitespace() && !matches!(letter, '|' | ':' | '#' | '\'' | '"')
}

fn write_path(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    match path.to_str() {
        Some(text) if text.chars().all(|letter| is_bare_target(letter) && !letter.is_control()) => {
            f.write_str(text)
        }
        _ => write_quoted(f, path.as_os_str().as_bytes()),
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("\"")?;
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                _ if letter.is_control() => write_hex(f, letter.encode_utf8(&mut [0; 4]).as_bytes())?,
                _ => fmt::Write::write_char(f, letter)?,
            }
        }
        write_hex(f, chunk.invalid())?;
    }
    f.write_str("\"")
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

const CONTROL: &str = "a control character is written \\xNN, between double quotes";
const COLON_IN_PATH: &str = "options follow the colon: key=value; a path with a colon is quoted";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without_offsets(mut chain: ChainSpec) -> ChainSpec {
        for stage in &mut chain.stages {
            stage.at = 0;
            for option in &mut stage.options {
                (option.key_at, option.value_at) = (0, 0);
            }
        }
        chain
    }

    fn stage(target: Target, options: &[(&str, &[u8])]) -> StageSpec {
        let options = options.iter().map(|(key, value)| OptionSpec {
            key: (*key).to_owned(),
            value: value.to_vec(),
            key_at: 0,
            value_at: 0,
        });
        StageSpec { at: 0, target, options: options.collect() }
    }

    fn name(name: &str) -> Target {
        Target::Name(name.to_owned())
    }

    fn file(path: &str, id: Option<&str>) -> Target {
        Target::File { path: path.into(), id: id.map(str::to_owned) }
    }

    #[test]
    fn good_chains() {
        let table: &[(&str, &[StageSpec], &str)] = &[
            ("", &[], ""),
            (" \t\n ", &[], ""),
            ("uppercase", &[stage(name("uppercase"), &[])], "uppercase"),
            (" uppercase|hex ", &[stage(name("uppercase"), &[]), stage(name("hex"), &[])], "uppercase | hex"),
            (
                "delay:time=20ms,jitter=5ms | corrupt:rate=1%,seed=7",
                &[
                    stage(name("delay"), &[("time", b"20ms"), ("jitter", b"5ms")]),
                    stage(name("corrupt"), &[("rate", b"1%"), ("seed", b"7")]),
                ],
                "delay:time=20ms,jitter=5ms | corrupt:rate=1%,seed=7",
            ),
            ("org.example.x_y-2", &[stage(name("org.example.x_y-2"), &[])], "org.example.x_y-2"),
            ("./libmine.so", &[stage(file("./libmine.so", None), &[])], "./libmine.so"),
            (
                "./libmine.so#second:key=value",
                &[stage(file("./libmine.so", Some("second")), &[("key", b"value")])],
                "./libmine.so#second:key=value",
            ),
            (
                "/abs/x.so:path=/tmp/a:b#c",
                &[stage(file("/abs/x.so", None), &[("path", b"/tmp/a:b#c")])],
                "/abs/x.so:path=/tmp/a:b#c",
            ),
            (
                "'./dir with blank/x.so'#a:k=v",
                &[stage(file("./dir with blank/x.so", Some("a")), &[("k", b"v")])],
                "\"./dir with blank/x.so\"#a:k=v",
            ),
            ("\"./a:b#c/x.so\"", &[stage(file("./a:b#c/x.so", None), &[])], "\"./a:b#c/x.so\""),
            ("./a,b.so", &[stage(file("./a,b.so", None), &[])], "./a,b.so"),
            ("x:a='it'", &[stage(name("x"), &[("a", b"it")])], "x:a=it"),
            (
                r#"x:a='a, | "\n',b="q\"\\\n\t\x00\xff é",c="""#,
                &[stage(
                    name("x"),
                    &[("a", br#"a, | "\n"#), ("b", b"q\"\\\n\t\x00\xff \xc3\xa9"), ("c", b"")],
                )],
                r#"x:a="a, | \"\\n",b="q\"\\\n\t\x00\xff é",c="""#,
            ),
            ("x:k=a=b:c", &[stage(name("x"), &[("k", b"a=b:c")])], "x:k=a=b:c"),
        ];
        for (text, stages, canonical) in table {
            let chain = ChainSpec::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(chain.to_string(), *canonical, "{text}");
            assert_eq!(without_offsets(chain).stages, *stages, "{text}");
        }
    }

    #[test]
    fn offsets() {
        let chain = ChainSpec::parse(" é/x.so | b:k=v,long='w'").unwrap();
        let [first, second] = &chain.stages[..] else { panic!("{chain:?}") };
        assert_eq!((first.at, second.at), (1, 11));
        let places: Vec<_> = second.options.iter().map(|option| (option.key_at, option.value_at)).collect();
        assert_eq!(places, [(13, 15), (17, 22)]);
    }

    #[test]
    fn bad_chains() {
        let table = [
            ("a | | b", 4, "missing before"),
            ("| a", 0, "missing before"),
            ("a |", 3, "missing after"),
            ("a | ", 4, "missing after"),
            ("a b", 2, "a bar separates stages"),
            ("Upper", 0, "a-z"),
            ("upPer", 2, "a-z"),
            ("é", 0, "a-z"),
            ("aé", 1, "a-z"),
            ("-a", 0, "begins with"),
            (":k=v", 0, "name is missing"),
            ("a,b", 1, "a-z"),
            ("a#b", 1, "only a file"),
            ("./a.so#", 7, "name is missing"),
            ("./a.so#B", 7, "a-z"),
            ("./a.so#b#c", 8, "unexpected"),
            ("'upper'", 0, "only a file is quoted"),
            ("'./a'b", 5, "unexpected"),
            ("./a'b'", 3, "whole path"),
            ("./a\u{1}b", 3, "control"),
            ("\"./a\\x00b\"", 0, "NUL"),
            ("./a:b/x.so", 5, "a path with a colon is quoted"),
            ("./a:/x.so", 4, "a path with a colon is quoted"),
            ("a:", 2, "option is missing"),
            ("a: k=v", 2, "without a blank"),
            ("a:k=v,", 6, "option is missing"),
            ("a:k=v,,j=w", 6, "option is missing"),
            ("a:k=v, j=w", 6, "without a blank"),
            ("a:flag", 6, "key=value"),
            ("a:flag,k=v", 6, "key=value"),
            ("a:flag | b", 6, "key=value"),
            ("a:K=v", 2, "a key has"),
            ("a:1=v", 2, "begins with a-z"),
            ("a:k-x=v", 3, "a key has"),
            ("a:k=", 4, "empty one is written ''"),
            ("a:k=,j=w", 4, "empty one is written ''"),
            ("a:k=v,j=w,k=x", 10, "given twice"),
            ("a:k=v\"w\"", 5, "whole value"),
            ("a:k='v'w", 7, "unexpected"),
            ("a:k='v", 4, "never closed"),
            ("a:k=\"v\\\"", 4, "never closed"),
            ("a:k=\"v\\", 6, "unknown escape"),
            ("a:k=\"\\q\"", 5, "unknown escape"),
            ("a:k=\"\\x4\"", 5, "unknown escape"),
            ("a:k=\"\\xé0\"", 5, "unknown escape"),
            ("a:k=v\u{7f}", 5, "control"),
        ];
        for (text, at, message) in table {
            let error = ChainSpec::parse(text).expect_err(text);
            assert_eq!((error.subject, error.text.as_str(), error.at), ("chain", text, at), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
    }

    fn chains() -> impl Strategy<Value = ChainSpec> {
        let names = || "[a-z0-9][a-z0-9._-]{0,6}";
        let paths = (".{0,5}", proptest::collection::vec(1u8.., 0..8)).prop_map(|(head, tail)| {
            let mut bytes = head.replace('\0', "").into_bytes();
            bytes.push(b'/');
            bytes.extend(tail);
            PathBuf::from(OsString::from_vec(bytes))
        });
        let targets = prop_oneof![
            names().prop_map(Target::Name),
            "[./a-z]{0,4}/[a-z .:#|,'\"\\\\é]{0,8}"
                .prop_map(|path| Target::File { path: path.into(), id: None }),
            (paths, proptest::option::of(names())).prop_map(|(path, id)| Target::File { path, id }),
        ];
        let values = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..8),
            any::<String>().prop_map(String::into_bytes),
            "[a-z0-9%=:#/,| '\"\\\\]{0,8}".prop_map(String::into_bytes),
        ];
        let options = proptest::collection::btree_map("[a-z][a-z0-9_]{0,5}", values, 0..4);
        let stages = (targets, options).prop_map(|(target, options)| StageSpec {
            at: 0,
            target,
            options: options
                .into_iter()
                .map(|(key, value)| OptionSpec { key, value, key_at: 0, value_at: 0 })
                .collect(),
        });
        proptest::collection::vec(stages, 0..5).prop_map(|stages| ChainSpec { stages })
    }

    fn texts() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("|"),
            Just(":"),
            Just(","),
            Just("="),
            Just("#"),
            Just("/"),
            Just("./a.so"),
            Just("name"),
            Just("k=v"),
            Just("'"),
            Just("\""),
            Just("\\"),
            Just("\\x4"),
            Just(" "),
            Just("é"),
            Just("\u{1}"),
        ];
        prop_oneof![
            any::<String>(),
            proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()),
        ]
    }

    proptest! {
        #[test]
        fn the_canonical_text_reads_the_same(chain in chains()) {
            let text = chain.to_string();
            let again = ChainSpec::parse(&text);
            prop_assert_eq!(again.map(without_offsets), Ok(chain), "{}", text);
        }

        #[test]
        fn no_text_panics(text in texts()) {
            match ChainSpec::parse(&text) {
                Ok(chain) => {
                    let canonical = chain.to_string();
                    let again = ChainSpec::parse(&canonical).map(without_offsets);
                    prop_assert_eq!(again, Ok(without_offsets(chain)), "{}", canonical);
                }
                Err(error) => prop_assert!(text.is_char_boundary(error.at), "{}", error),
            }
        }
    }
}
