//! From a file to a [`Config`], or to all that is wrong in it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use resay::net::address::{Address, Listen, Pair};
use resay::options::{ENGINE_KEYS, KEYS, Key, nearest, parse_duration, parse_size};
use resay::transform::spec::{ChainSpec, OptionSpec, StageSpec, Target};
use resay::{Engine, Error, Options};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check;
use super::clash::{self, Taken};
use super::place::{Document, Marks, Source, Text, TlsMark, TopMarks};
use super::settings::{Config, Entry};
use super::types::Types;
use crate::exit::{Exit, Failure};
use crate::log::Format;

/// The keys at the top beside those of the engine.
pub(super) const TOP: [&str; 11] = [
    "log",
    "drain_timeout",
    "lame_duck",
    "sandbox",
    "control",
    "control_read",
    "metrics",
    "plugin_dirs",
    "chain",
    "defaults",
    "listener",
];
/// The keys of a listener beside its options.
pub(super) const LISTENER: [&str; 3] = ["name", "listen", "tls"];
/// Letters of a name.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// The bytes of the path of a unix socket: `sun_path` of unix(7), but for the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What a file without listeners lacks.
const NO_LISTENER: &str = "there is no [[listener]]: nothing would listen";

/// A file is not read beyond this.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads a file: its text only. All that is wrong in it is in the failure.
pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    parse(path, &load(path)?)
}

/// Finds all that is wrong in a file, and in what it names.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let text = load(path)?;
    let source = Source::new(path, &text);
    if let Some(config) = config_of(&source) {
        check::check(&source, &config);
    }
    if source.has_faults() { Err(source.failure()) } else { Ok(()) }
}

fn load(path: &Path) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("configuration {}: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(|error| failed(&error))?.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if file.limit() == 0 {
        return Err(failed(&format_args!("it is over {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        // What is good of the line is enough to find the place.
        let good = String::from_utf8_lossy(error.as_bytes().get(..at).unwrap_or_default());
        let source = Source::new(path, &good);
        source.fault(at, format!("the file is not UTF-8: here is a byte {byte:#04x}"));
        source.failure()
    })
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    let source = Source::new(path, text);
    config_of(&source).filter(|_| !source.has_faults()).ok_or_else(|| source.failure())
}

/// What the text says as far as it is good; `None`: it is not TOML.
fn config_of(source: &Source<'_>) -> Option<Config> {
    let (document, errors) = DeTable::parse_recoverable(source.text);
    for error in &errors {
        source.fault(error.span().map_or(0, |span| span.start), error.message());
    }
    errors.is_empty().then(|| Reader { source }.config(document.get_ref()))
}

#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    source: &'a Source<'a>,
}

impl Reader<'_> {
    fn config(self, table: &DeTable<'_>) -> Config {
        let mut config = Config {
            threads: 1,
            backend: resay::Backend::Auto,
            spin: Duration::ZERO,
            watchdog: Duration::from_secs(10),
            thread_name: "resay".to_owned(),
            thread_stack: 2 << 20,
            thread_cpus: String::new(),
            log: Format::Text,
            drain_timeout: Duration::from_secs(5),
            lame_duck: Duration::ZERO,
            sandbox: false,
            control: None,
            control_read: None,
            metrics: None,
            plugin_dirs: Vec::new(),
            chain: String::new(),
            listeners: Vec::new(),
            document: Document { path: self.source.path.to_owned(), text: self.source.text.to_owned() },
            marks: TopMarks::default(),
        };
        let mut defaults = Options::default();
        let mut taken = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "defaults" => self.defaults(value, &mut defaults),
                // When the defaults are known.
                "listener" => {}
                "plugin_dirs" => {
                    let texts = self.texts(value, Types::TEXTS);
                    config.plugin_dirs = texts.iter().map(|text| text.text.clone().into()).collect();
                    config.marks.plugin_dirs = texts;
                }
                name => {
                    self.top(key, name, value, &mut config);
                    let at = value.span().start;
                    match name {
                        "control" | "control_read" => {
                            let path = if name == "control" { &config.control } else { &config.control_read };
                            taken.extend(path.as_ref().map(|path| Taken::by_control(name, path, at)));
                        }
                        "metrics" => {
                            let place = config.metrics.as_ref();
                            taken.extend(place.and_then(|place| Taken::by_metrics(place, at)));
                        }
                        _ => {}
                    }
                }
            }
        }
        match table.get("listener") {
            Some(value) => self.listeners(value, &defaults, &mut config.listeners, &mut taken),
            None => self.source.fault(self.source.text.len(), NO_LISTENER),
        }
        clash::find(self.source, taken);
        config
    }

    fn top(
        self,
        key: &Spanned<impl AsRef<str>>,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        config: &mut Config,
    ) {
        let engine = ENGINE_KEYS.iter().map(|key| key.name);
        if !engine.clone().chain(TOP).any(|known| known == name) {
            let tables = "the options of all listeners stand under [defaults]";
            let message = match (Key::find(name), nearest(name, engine.chain(TOP))) {
                (Some(_), _) => format!("{name:?} is an option of listeners; {tables}"),
                (_, Some(near)) => format!("unknown key {name:?}, did you mean {near:?}?"),
                _ => format!("unknown key {name:?}; {tables}"),
            };
            return self.source.fault(key.span().start, message);
        }
        let Some(text) = self.text(value, Types::of_top(name)) else { return };
        if let Err((at, message)) = set_top(config, name, &text.text) {
            self.source.fault(text.at(at), message);
        }
        if name == "chain" {
            config.marks.chain = Some(text);
        }
    }

    fn defaults(self, value: &Spanned<DeValue<'_>>, defaults: &mut Options) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.source.fault(value.span().start, "a table is expected: [defaults]");
        };
        for (key, value) in table {
            if key.get_ref() == "chain" {
                let message = "the chain of all listeners stands above the tables: chain = \"...\"";
                self.source.fault(key.span().start, message);
            } else {
                self.option(key.get_ref(), key.span().start, value, defaults);
            }
        }
    }

    fn option(self, key: &str, at: usize, value: &Spanned<DeValue<'_>>, options: &mut Options) {
        // The name comes first: what an unknown one takes nobody knows.
        let text = match Key::find(key) {
            Some(_) => self.text(value, Types::of_option(key)),
            None => Some(Text::new(self.source, String::new(), value.span())),
        };
        let Some(text) = text else { return };
        if let Err(fault) = options.set(key, &text.text) {
            let at = if fault.in_key { at + fault.at } else { text.at(fault.at) };
            self.source.fault(at, fault.message);
        }
    }

    fn listeners(
        self,
        value: &Spanned<DeValue<'_>>,
        defaults: &Options,
        entries: &mut Vec<Entry>,
        taken: &mut Vec<Taken>,
    ) {
        let DeValue::Array(tables) = value.get_ref() else {
            return self.source.fault(value.span().start, "tables are expected: [[listener]]");
        };
        if tables.is_empty() {
            self.source.fault(value.span().start, NO_LISTENER);
        }
        let mut names: Vec<String> = Vec::new();
        for value in tables.iter() {
            let DeValue::Table(table) = value.get_ref() else {
                self.source.fault(value.span().start, "tables are expected: [[listener]]");
                continue;
            };
            let name = self.name(value.span().start, table);
            if let Some(name) = &name {
                if names.contains(name) {
                    let message = format!("another listener has the name {name:?} already");
                    self.source.fault(table.get("name").map_or(0, |name| name.span().start), message);
                }
                names.push(name.clone());
            }
            self.listener(value.span().start, &name.unwrap_or_default(), table, defaults, entries, taken);
        }
    }

    fn name(self, start: usize, table: &DeTable<'_>) -> Option<String> {
        let Some(value) = table.get("name") else {
            self.source.fault(start, "the listener has no name: name = \"public\"");
            return None;
        };
        let text = self.text(value, Types::TEXT)?;
        let is_good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let wrong = text.text.find(|letter| !is_good(letter));
        if !(1..=NAME_BYTES_MAX).contains(&text.text.len()) || wrong.is_some() {
            let message =
                format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, hyphens, dots and underscores");
            self.source.fault(text.at(wrong.unwrap_or(0)), message);
            return None;
        }
        // `resay ctl` takes such words too, for something else.
        let meant = match text.text.as_str() {
            "all" => "all listeners",
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => "the number of a listener",
            _ => return Some(text.text),
        };
        let message = format!("{:?} is {meant} for `resay ctl`: choose another name", text.text);
        self.source.fault(text.at(0), message);
        None
    }

    fn listener(
        self,
        start: usize,
        name: &str,
        table: &DeTable<'_>,
        defaults: &Options,
        entries: &mut Vec<Entry>,
        taken: &mut Vec<Taken>,
    ) {
        for key in table.keys() {
            let known = || KEYS.iter().map(|key| key.name).chain(LISTENER);
            let word = key.get_ref().as_ref();
            if !known().any(|name| name == word) {
                let message = match nearest(word, known()) {
                    Some(near) => format!("unknown key {word:?} of a listener, did you mean {near:?}?"),
                    None => format!(
                        "unknown key {word:?} of a listener; there are {}",
                        known().collect::<Vec<_>>().join(", ")
                    ),
                };
                self.source.fault(key.span().start, message);
            }
        }
        let Some(listen) = table.get("listen") else {
            return self
                .source
                .fault(start, "the listener has no address: listen = \"tcp://127.0.0.1:8888\"");
        };
        let urls = self.texts(listen, Types::TEXTS);
        // What is no text is told already.
        if matches!(listen.get_ref(), DeValue::Array(values) if values.is_empty()) {
            self.source
                .fault(listen.span().start, "an address is expected: listen = \"tcp://127.0.0.1:8888\"");
        }
        let tls = table.get("tls").map(|value| (value, self.tls(value)));
        let mut has_tls = false;
        let mut used: Vec<&str> = Vec::new();
        let first = entries.len();
        let mut is_whole = true;
        for url in &urls {
            let parsed = Listen::parse(&url.text, defaults).and_then(|_| Address::parse(&url.text));
            let (bare, pairs) = match parsed {
                Ok(parsed) => parsed,
                Err(error) => {
                    self.source.fault(url.at(error.at), error.message);
                    is_whole = false;
                    continue;
                }
            };
            // What means nothing for this address stays out of what is compared with a later file.
            let mut options = Options::default();
            let meant = |key: &str| bare.refuses(key).is_none();
            for key in KEYS.iter().filter(|key| meant(key.name) && key.name != "chain") {
                if let Some(value) = defaults.get(key.name) {
                    // Its own text: it is taken.
                    let _ = options.set(key.name, &value);
                }
            }
            for (key, value) in table {
                let word = key.get_ref().as_ref();
                if let Some(known) = Key::find(word)
                    && meant(word)
                {
                    // What is wrong with a value is said once.
                    if used.contains(&known.name) {
                        if let Ok(text) = plain(value) {
                            let _ = options.set(word, &text);
                        }
                    } else {
                        used.push(known.name);
                        self.option(word, key.span().start, value, &mut options);
                    }
                }
            }
            if matches!(bare, Address::Tls(_)) {
                has_tls = true;
            }
            match Listen::parse(&url.text, &options) {
                Ok(mut listen) => {
                    if let Some((_, Some(marks))) = &tls
                        && matches!(bare, Address::Tls(_))
                    {
                        // Its own text: it is taken.
                        let _ = listen.options.set("filter", &tls_filter(marks, &pairs));
                    }
                    if let Err(error) = listen.check() {
                        // Its text is KEY=VALUE.
                        let name = error.text.split('=').next().unwrap_or_default();
                        let in_url =
                            pairs.iter().find(|pair| pair.key == name).map(|pair| url.at(pair.key_at(0)));
                        let in_table = || table.get_key_value(name).map(|(key, _)| key.span().start);
                        let at = in_url.or_else(in_table).unwrap_or(url.start());
                        self.source.fault(at, error.message);
                    }
                    taken.extend(Taken::by_listener(&listen, name, url.start()));
                    let marked = |key: &str| self.mark(table.get(key)?);
                    let marks = Marks {
                        url: url.clone(),
                        pairs,
                        chain: marked("chain"),
                        filter: marked("filter"),
                        tls: tls.iter().filter_map(|(_, marks)| marks.clone()).flatten().collect(),
                    };
                    entries.push(Entry { name: name.to_owned(), listen, marks });
                }
                Err(error) => self.source.fault(url.at(error.at), error.message),
            }
        }
        if let Some((value, _)) = &tls
            && !has_tls
            && is_whole
        {
            let message = "tls is for addresses with TLS: listen = \"tls://:8443\"";
            self.source.fault(value.span().start, message);
        }
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if is_whole && !urls.is_empty() && Key::find(word).is_some() && !used.contains(&word) {
                let address = entries.get(first).map(|entry| entry.listen.address.clone());
                let reason = address.and_then(|address| address.refuses(word));
                let reason = reason.unwrap_or_else(|| format!("{word} means nothing here"));
                self.source.fault(key.span().start, reason);
            }
        }
    }

    /// The options of TLS. A list gives an option several times.
    fn tls(self, value: &Spanned<DeValue<'_>>) -> Option<Vec<TlsMark>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.source
                .fault(value.span().start, "a table is expected: tls = { cert = \"...\", key = \"...\" }");
            return None;
        };
        let mut options = Vec::new();
        for (key, value) in table {
            if matches!(value.get_ref(), DeValue::Array(values) if values.is_empty()) {
                self.source.fault(value.span().start, "a text is expected in the list");
            }
            for value in self.texts(value, Types::FILTER) {
                let key_at = key.span().start;
                options.push(TlsMark { key: key.get_ref().to_string(), key_at, value });
            }
        }
        Some(options)
    }

    /// The place of a value that was read before.
    fn mark(self, value: &Spanned<DeValue<'_>>) -> Option<Text> {
        Some(Text::new(self.source, plain(value).ok()?, value.span()))
    }

    /// A text, or an array of texts.
    fn texts(self, value: &Spanned<DeValue<'_>>, types: Types) -> Vec<Text> {
        match value.get_ref() {
            DeValue::Array(values) if types.fault(value.get_ref()).is_none() => {
                let of_element = Types { names: types.elements, elements: &[] };
                values.iter().filter_map(|value| self.text(value, of_element)).collect()
            }
            _ => self.text(value, types).into_iter().collect(),
        }
    }

    /// A value as it would be typed: numbers, flags and lists too, as far as the key takes them.
    fn text(self, value: &Spanned<DeValue<'_>>, types: Types) -> Option<Text> {
        if let Some(message) = types.fault(value.get_ref()) {
            self.source.fault(value.span().start, message);
            return None;
        }
        if let DeValue::Array(values) = value.get_ref() {
            let mut faults = values.iter().filter_map(|value| {
                types.element_fault(value.get_ref()).map(|message| (value.span().start, message))
            });
            if let Some((at, message)) = faults.next() {
                self.source.fault(at, message);
                return None;
            }
        }
        match plain(value) {
            Ok(text) => Some(Text::new(self.source, text, value.span())),
            Err((at, message)) => {
                // Within a string the place counts from its quotation mark.
                self.source.fault(value.span().start + at.map_or(0, |at| at + 1), message);
                None
            }
        }
    }
}

/// The options of TLS, as a filter: those of the URL, and those of the table that the URL does not have. Certificates have
/// their keys beside them, so those of the URL replace both.
fn tls_filter(marks: &[TlsMark], pairs: &[Pair]) -> String {
    let in_url = || pairs.iter().filter(|pair| Key::find(&pair.key).is_none());
    let has = |key: &str| in_url().any(|pair| pair.key == key);
    let is_replaced =
        |key: &str| has(key) || (key == "key" && has("cert") && marks.iter().any(|mark| mark.key == "cert"));
    let in_table = marks.iter().filter(|mark| !is_replaced(&mark.key));
    let in_table = in_table.map(|mark| (mark.key.clone(), mark.value.text.clone()));
    let all = in_table.chain(in_url().map(|pair| (pair.key.clone(), pair.value.clone())));
    let options =
        all.map(|(key, value)| OptionSpec { key, value: value.into_bytes(), key_at: 0, value_at: 0 });
    StageSpec { at: 0, target: Target::Name("tls".to_owned()), options: options.collect() }.to_string()
}

/// The text of a value, with its variables; else what is wrong, and at which byte of a string.
fn plain(value: &Spanned<DeValue<'_>>) -> Result<String, (Option<usize>, String)> {
    match value.get_ref() {
        DeValue::String(text) => expand(text).map_err(|(at, message)| (Some(at), message)),
        DeValue::Boolean(on) => Ok(u8::from(*on).to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map(|number| number.to_string()).map_err(|error| (None, error.to_string()))
        }
        DeValue::Array(values) => {
            let texts: Result<Vec<_>, _> = values.iter().map(plain).collect();
            texts.map(|texts| texts.join(",")).map_err(|(_, message)| (None, message))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Err((
            None,
            format!("a text, a number or a list is expected, not a {}", value.get_ref().type_str()),
        )),
    }
}

/// Puts variables of the environment in: `${NAME}`. `$$` is a dollar sign.
fn expand(text: &str) -> Result<String, (usize, String)> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let at = text.len() - rest.len() + dollar;
        let (before, after) =
            (rest.get(..dollar).unwrap_or_default(), rest.get(dollar + 1..).unwrap_or_default());
        expanded += before;
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let Some(named) = after.strip_prefix('{') else {
            expanded.push('$');
            rest = after;
            continue;
        };
        let Some((name, after)) = named.split_once('}') else {
            return Err((at, "the variable does not end: ${NAME}; $$ is a dollar sign".to_owned()));
        };
        let value = resay_plugin::environment::variable(name);
        let value = value.ok_or_else(|| (at, format!("the variable {name} is not set")))?;
        expanded += value.to_str().ok_or_else(|| (at, format!("the variable {name} is not UTF-8")))?;
        rest = after;
    }
    Ok(expanded + rest)
}

fn set_top(config: &mut Config, key: &str, text: &str) -> Result<(), (usize, String)> {
    let spec = |error: Error| match error {
        Error::Spec(error) => (error.at, error.message),
        error => (0, error.to_string()),
    };
    let value = |fault: resay::options::ValueFault| (fault.at, fault.message);
    match key {
        "threads" => {
            let wrong = |_| (0, "a number of threads is expected: 1 to 256".to_owned());
            let threads = text.parse().map_err(wrong)?;
            Engine::builder().threads(threads).map_err(spec)?;
            config.threads = threads;
        }
        "backend" => {
            let wrong = |error: resay::SpecError| (error.at, error.message);
            config.backend = text.parse().map_err(wrong)?;
        }
        "spin" => {
            config.spin = parse_duration(text).map_err(value)?;
            Engine::builder().spin(config.spin).map_err(spec)?;
        }
        "watchdog" => {
            config.watchdog = parse_duration(text).map_err(value)?;
            Engine::builder().watchdog(config.watchdog).map_err(spec)?;
        }
        "thread_name" => {
            Engine::builder().thread_name(text).map_err(spec)?;
            text.clone_into(&mut config.thread_name);
        }
        "thread_stack" => {
            config.thread_stack = parse_size(text).map_err(value)?;
            let bytes = usize::try_from(config.thread_stack).unwrap_or(usize::MAX);
            Engine::builder().thread_stack(bytes).map_err(spec)?;
        }
        "thread_cpus" => {
            Engine::builder().thread_cpus(text).map_err(spec)?;
            text.clone_into(&mut config.thread_cpus);
        }
        "log" => {
            config.log =
                Format::from_str(text, false).map_err(|_| (0, "text or json is expected".to_owned()))?;
        }
        "drain_timeout" => config.drain_timeout = parse_duration(text).map_err(value)?,
        "lame_duck" => config.lame_duck = parse_duration(text).map_err(value)?,
        "sandbox" => {
            config.sandbox = match text {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err((0, "true or false is expected".to_owned())),
            };
        }
        "control" => config.control = Some(socket_path(text)?),
        "control_read" => config.control_read = Some(socket_path(text)?),
        "metrics" => {
            let wrong = |error: resay::SpecError| (error.at, error.message);
            config.metrics = Some(text.parse().map_err(wrong)?);
        }
        "chain" => {
            ChainSpec::parse(text).map_err(|error| (error.at, error.message))?;
            text.clone_into(&mut config.chain);
        }
        // The caller knows the names.
        _ => return Err((0, format!("unknown key {key:?}"))),
    }
    Ok(())
}

/// A path that a unix socket can have.
fn socket_path(text: &str) -> Result<PathBuf, (usize, String)> {
    if text.is_empty() {
        return Err((0, "a path is expected".to_owned()));
    }
    if let Some(at) = text.find('\0') {
        return Err((at, "a path has no NUL".to_owned()));
    }
    if text.len() > SOCKET_PATH_BYTES_MAX {
        let message = format!(
            "the path of a unix socket has at most {SOCKET_PATH_BYTES_MAX} bytes, and this has {}",
            text.len()
        );
        return Err((0, message));
    }
    match Path::new(text).file_name() {
        Some(_) if !text.ends_with('/') => Ok(text.into()),
        _ => Err((text.len(), "the path ends without a name".to_owned())),
    }
}
