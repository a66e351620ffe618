//! What the tables of a library declare.

use crate::table::{Contents, Loaded, Table};
use crate::verdict::Check;
use crate::words::{CAPS, FILTER_CAPS, LIBRARY_FLAGS, NEEDS, bits_text, bytes_text, threading_text};
use resay_plugin::abi;
use resay_plugin::inspect::OptionTexts;
use std::fmt;
use std::path::{Path, PathBuf};

/// A library, as it declares itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Info {
    /// The file.
    pub file: PathBuf,
    /// The revision of the header that it was compiled with.
    pub abi_minor: u32,
    /// `RESAY_LIB_` bits.
    pub flags: u32,
    /// It has init() or shutdown().
    pub has_lifecycle: bool,
    /// Its transforms; the first is what the path alone names.
    pub transforms: Vec<TransformDescription>,
    /// Its filters.
    pub filters: Vec<FilterDescription>,
}

/// A transform, as its table describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransformDescription {
    /// The name in a chain.
    pub id: String,
    /// Empty: not said.
    pub version: String,
    /// Empty: none.
    pub summary: String,
    /// `RESAY_CAP_` bits.
    pub caps: u32,
    /// `RESAY_NEED_` bits.
    pub needs: u32,
    /// `RESAY_SHARED` and so on.
    pub threading: u32,
    /// Bytes and alignment of a session.
    pub session: (u32, u32),
    /// Multiplied by, divided by, added; divided by 0: no bound.
    pub bound: (u32, u32, u32),
    /// It works in place.
    pub has_map: bool,
    /// What it offers beyond the table.
    pub extensions: Vec<String>,
    /// What it understands.
    pub options: Vec<OptionInfo>,
}

/// A filter, as its table describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FilterDescription {
    /// The name in `filter=`.
    pub id: String,
    /// Empty: not said.
    pub version: String,
    /// Empty: none.
    pub summary: String,
    /// `RESAY_FILTER_CAP_` bits.
    pub caps: u32,
    /// Bytes and alignment of what it keeps of a connection.
    pub conn: (u32, u32),
    /// What it understands.
    pub options: Vec<OptionInfo>,
}

/// An option of a transform or filter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name.
    pub key: String,
    /// What values look like.
    pub kind: String,
    /// What holds when it is not given; `None`: it must be given.
    pub fallback: Option<String>,
    /// A line of help.
    pub help: Option<String>,
    /// What a number counts.
    pub unit: Option<String>,
    /// The least value.
    pub min: Option<String>,
    /// The greatest value.
    pub max: Option<String>,
}

impl OptionInfo {
    fn list_from_texts(texts: &mut impl Iterator<Item = String>) -> Option<Vec<OptionInfo>> {
        let count = number(texts)?;
        (0..count)
            .map(|_| {
                let (key, kind) = (texts.next()?, texts.next()?);
                let mut at_most_one = || Some((0..number(texts)?).map(|_| texts.next()).next().flatten());
                Some(OptionInfo {
                    key,
                    kind,
                    fallback: at_most_one()?,
                    help: at_most_one()?,
                    unit: at_most_one()?,
                    min: at_most_one()?,
                    max: at_most_one()?,
                })
            })
            .collect()
    }

    /// The longest of names and types.
    fn width(options: &[OptionInfo]) -> usize {
        options.iter().map(|option| option.key.len() + option.kind.len() + 3).max().unwrap_or(0)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        let name = format!("{}=<{}>", self.key, self.kind);
        let fallback = match &self.fallback {
            Some(fallback) => format!("[default: {fallback}]"),
            None => "[must be given]".to_owned(),
        };
        let help = self.help.as_deref().unwrap_or_default();
        let range = self.range_text();
        writeln!(f, "    {name:width$}  {help}{range} {fallback}")
    }

    /// Unit and limits in words, with a blank before: ` (bytes/s, from 1 to 9)`.
    fn range_text(&self) -> String {
        let limits = match (&self.min, &self.max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => String::new(),
        };
        let unit = self.unit.clone().unwrap_or_default();
        match [unit, limits].map(|text| (!text.is_empty()).then_some(text)) {
            [Some(unit), Some(limits)] => format!(" ({unit}, {limits})"),
            [Some(text), None] | [None, Some(text)] => format!(" ({text})"),
            [None, None] => String::new(),
        }
    }
}

/// In the child: the description, as texts one after another.
pub(crate) fn data(loaded: &Loaded) -> Check<Vec<String>> {
    let Contents { library, tables, filters } = loaded.describe()?;
    let has_lifecycle = library.init.is_some() || library.shutdown.is_some();
    let numbers = [library.abi_minor, library.flags, u32::from(has_lifecycle), tables.len() as u32];
    let mut data: Vec<String> = numbers.map(|number| number.to_string()).into();
    for table in &tables {
        let fields = &table.fields;
        data.push(table.id.clone());
        // SAFETY: the table was held against the header: NULL or NUL-ended.
        data.extend(
            [fields.version, fields.summary]
                .map(|text| unsafe { crate::words::c_text(text) }.ok().flatten().unwrap_or_default()),
        );
        let numbers = [
            fields.caps,
            fields.needs,
            fields.threading,
            fields.session_size,
            fields.session_align,
            fields.out_mul,
            fields.out_div,
            fields.out_add,
            u32::from(fields.map.is_some()),
        ];
        data.extend(numbers.map(|number| number.to_string()));
        list(&mut data, extensions(table), |data, name| data.push(name));
        list(&mut data, table.options.clone(), push_option);
    }
    list(&mut data, filters, |data, filter| {
        data.extend([filter.id, filter.version, filter.summary].map(str::to_owned));
        let numbers = [filter.fields.caps, filter.fields.conn_size, filter.fields.conn_align];
        data.extend(numbers.map(|number| number.to_string()));
        list(data, filter.options, push_option);
    });
    Ok(data)
}

fn push_option(data: &mut Vec<String>, option: OptionTexts) {
    data.extend([option.key, option.kind].map(str::to_owned));
    // An option's text is at most one: a list of none or one.
    for text in [option.fallback, option.help, option.unit, option.min, option.max] {
        list(data, text.into_iter().collect(), |data, text| data.push(text.to_owned()));
    }
}

fn list<T>(data: &mut Vec<String>, items: Vec<T>, mut push: impl FnMut(&mut Vec<String>, T)) {
    data.push(items.len().to_string());
    items.into_iter().for_each(|item| push(data, item));
}

fn extensions(table: &Table) -> Vec<String> {
    [abi::RESAY_EXT_SELECT, abi::RESAY_EXT_SESSION_STATE]
        .into_iter()
        .filter(|name| !table.extension(name).is_null())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

impl Info {
    pub(crate) fn from_data(file: &Path, data: &[String]) -> Option<Info> {
        let mut texts = data.iter().cloned();
        let (abi_minor, flags) = (number(&mut texts)?, number(&mut texts)?);
        let (has_lifecycle, count) = (number(&mut texts)? != 0, number(&mut texts)?);
        let transforms =
            (0..count).map(|_| TransformDescription::from_texts(&mut texts)).collect::<Option<_>>()?;
        let filters = (0..number(&mut texts)?)
            .map(|_| FilterDescription::from_texts(&mut texts))
            .collect::<Option<_>>()?;
        Some(Info { file: file.to_owned(), abi_minor, flags, has_lifecycle, transforms, filters })
    }
}

impl TransformDescription {
    fn from_texts(texts: &mut impl Iterator<Item = String>) -> Option<TransformDescription> {
        Some(TransformDescription {
            id: texts.next()?,
            version: texts.next()?,
            summary: texts.next()?,
            caps: number(texts)?,
            needs: number(texts)?,
            threading: number(texts)?,
            session: (number(texts)?, number(texts)?),
            bound: (number(texts)?, number(texts)?, number(texts)?),
            has_map: number(texts)? != 0,
            extensions: (0..number(texts)?).map(|_| texts.next()).collect::<Option<_>>()?,
            options: OptionInfo::list_from_texts(texts)?,
        })
    }
}

impl FilterDescription {
    fn from_texts(texts: &mut impl Iterator<Item = String>) -> Option<FilterDescription> {
        Some(FilterDescription {
            id: texts.next()?,
            version: texts.next()?,
            summary: texts.next()?,
            caps: number(texts)?,
            conn: (number(texts)?, number(texts)?),
            options: OptionInfo::list_from_texts(texts)?,
        })
    }
}

fn number(texts: &mut impl Iterator<Item = String>) -> Option<u32> {
    texts.next()?.parse().ok()
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.file.display())?;
        row(f, "ABI", &format!("1.{}", self.abi_minor))?;
        row(f, "flags", &bits_text(self.flags, LIBRARY_FLAGS))?;
        row(f, "lifecycle", if self.has_lifecycle { "init() and shutdown()" } else { "none" })?;
        for transform in &self.transforms {
            transform.fmt(f)?;
        }
        for filter in &self.filters {
            filter.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for TransformDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mul, div, add) = self.bound;
        writeln!(f, "{}", format!("{} {}", self.id, self.version).trim_end())?;
        if !self.summary.is_empty() {
            row(f, "summary", &self.summary)?;
        }
        row(f, "works", if self.has_map { "in place (map)" } else { "from input to output (process)" })?;
        for (name, value) in contract_rows(self.caps, self.needs, self.threading) {
            row(f, name, &value)?;
        }
        row(f, "session", &memory_text(self.session))?;
        if !self.has_map {
            row(
                f,
                "bound",
                &if div == 0 { "none declared".to_owned() } else { format!("n * {mul} / {div} + {add}") },
            )?;
        }
        let extensions =
            if self.extensions.is_empty() { "none".to_owned() } else { self.extensions.join(", ") };
        row(f, "extensions", &extensions)?;
        self.options.iter().try_for_each(|option| option.write(f, OptionInfo::width(&self.options)))
    }
}

impl fmt::Display for FilterDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", format!("{} {}", self.id, self.version).trim_end())?;
        if !self.summary.is_empty() {
            row(f, "summary", &self.summary)?;
        }
        row(f, "works", "between a socket and its stream (filter)")?;
        row(f, "promises", &bits_text(self.caps, FILTER_CAPS))?;
        row(f, "connection", &memory_text(self.conn))?;
        self.options.iter().try_for_each(|option| option.write(f, OptionInfo::width(&self.options)))
    }
}

/// Bytes and alignment.
fn memory_text(memory: (u32, u32)) -> String {
    match memory {
        (0, _) => "none".to_owned(),
        (size, 0) => bytes_text(size as usize),
        (size, align) => format!("{}, aligned to {align}", bytes_text(size as usize)),
    }
}

/// The rows of a description that say how a transform may be called: names and values.
pub fn contract_rows(caps: u32, needs: u32, threading: u32) -> [(&'static str, String); 3] {
    [
        ("promises", bits_text(caps, CAPS)),
        ("needs", bits_text(needs, NEEDS)),
        ("threading", threading_text(threading)),
    ]
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<11} {value}")
}
