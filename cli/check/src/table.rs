//! Libraries and tables: opened, read, and checked against the header.

use crate::guarded::{GuardedMemory, Region};
use crate::promise::Promise;
use crate::verdict::Violation;
use crate::words::c_text;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use resay_plugin::{abi, inspect};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::path::Path;

/// An opened library. It is not closed when this is dropped: a table, once seen, stays.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) library: ManuallyDrop<Library>,
    pub(crate) entry: abi::resay_plugin_entry,
}

impl Loaded {
    /// Opens a file as the engine does.
    pub(crate) fn open(file: &Path) -> Result<Loaded, Violation> {
        // A name without a slash would be searched for.
        let file = file.canonicalize().map_err(|error| Violation::of(Promise::File, error.to_string()))?;
        // SAFETY: running the library's initialisers is what this process is for.
        let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| Violation::of(Promise::Loads, innermost(&error)))?;
        // SAFETY: the one symbol of the ABI has this type.
        let entry = unsafe { library.get::<abi::resay_plugin_entry>(c"resay_plugin_v1") }
            .map(|symbol| *symbol)
            .map_err(|_| {
                let what = "there is no resay_plugin_v1: no plugin of Resay, or of another ABI major";
                Violation::of(Promise::Exports, what.to_owned())
            })?;
        Ok(Loaded { library: ManuallyDrop::new(library), entry })
    }

    /// What the entry returns, with its tables, all checked against the header.
    pub(crate) fn describe(&self) -> Result<(abi::resay_library, Vec<Table>), Violation> {
        let broken = |what: String| Err(Violation::of(Promise::Table, what));
        // SAFETY: the entry takes any revision.
        let raw = unsafe { (self.entry)(abi::RESAY_PLUGIN_ABI_MINOR) };
        if raw.is_null() {
            let what = format!("resay_plugin_v1({}) returned NULL", abi::RESAY_PLUGIN_ABI_MINOR);
            return broken(format!("{what}: it refuses this host"));
        }
        let violation = |what| Violation::of(Promise::Table, what);
        // SAFETY: by the ABI at least its struct_size, with a list as long as it says; the library stays loaded.
        let (library, raws) = unsafe {
            let size = size_of::<abi::resay_library>();
            let library = inspect::read("resay_library", raw, size).map_err(violation)?;
            let raws = inspect::tables(&library).map_err(violation)?;
            (library, raws)
        };
        let tables = raws.iter().map(|raw| Table::new(*raw)).collect::<Result<Vec<_>, _>>()?;
        let mut ids = BTreeSet::new();
        for table in &tables {
            if !ids.insert(&table.id) {
                return broken(format!("two tables have the id '{}'", table.id));
            }
        }
        Ok((library, tables))
    }

    /// The table of that id.
    pub(crate) fn table(&self, id: &str) -> Result<Table, Violation> {
        let (_, tables) = self.describe()?;
        tables
            .into_iter()
            .find(|table| table.id == id)
            .ok_or_else(|| Violation::of(Promise::Table, format!("there is no transform '{id}'")))
    }
}

/// A table: where it is, and a copy of what it says.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) raw: *const abi::resay_transform,
    pub(crate) fields: abi::resay_transform,
    pub(crate) id: String,
    pub(crate) options: Vec<OptionText>,
}

/// An option of a table.
#[derive(Debug, Clone)]
pub(crate) struct OptionText {
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) fallback: Option<String>,
    pub(crate) help: Option<String>,
}

impl Table {
    pub(crate) fn new(raw: *const abi::resay_transform) -> Result<Table, Violation> {
        let broken = |what: String| Err(Violation::of(Promise::Table, what));
        // Everything in minor 0 is always there.
        // SAFETY: by the ABI at least its struct_size, with strings that end with NUL.
        let (fields, id) = unsafe { inspect::transform(raw, size_of::<abi::resay_transform>()) }
            .map_err(|what| Violation::of(Promise::Table, what))?;
        let id = id.to_owned();
        for (name, text) in [("version", fields.version), ("summary", fields.summary)] {
            let text = field(name, text)?.unwrap_or_default();
            if text.contains('\n') {
                return broken(format!("{id}: {name} has more than one line"));
            }
        }
        let options = options(&id, &fields)?;
        if !options.is_empty() && fields.create.is_none() {
            return broken(format!("{id}: it has options, but create is NULL"));
        }
        Ok(Table { raw, fields, id, options })
    }

    /// The table for these options: itself, or the one that "resay.select/1" selects.
    pub(crate) fn select(self, options: &[abi::resay_kv]) -> Result<Table, Violation> {
        let select = self.extension(abi::RESAY_EXT_SELECT).cast::<abi::resay_select>();
        if select.is_null() {
            return Ok(self);
        }
        // SAFETY: an extension of that name is a resay_select of struct_size bytes.
        let fields = unsafe { inspect::read("resay_select", select, size_of::<abi::resay_select>()) }
            .map_err(|what| Violation::of(Promise::Table, what))?;
        let Some(select) = fields.select else { return Ok(self) };
        // SAFETY: the listed table and pairs that live during the call.
        let [chosen, again] = [(); 2].map(|()| unsafe { select(self.raw, options.as_ptr(), options.len()) });
        let broken =
            |what: &str| Err(Violation::of(Promise::Table, format!("{}: resay.select/1 {what}", self.id)));
        if chosen != again {
            return broken("returns a different table the second time");
        }
        if chosen.is_null() || chosen == self.raw {
            return Ok(self);
        }
        let chosen = Table::new(chosen)?;
        let keys = |table: &Table| table.options.iter().map(|option| option.key.clone()).collect::<Vec<_>>();
        if chosen.id != self.id {
            return broken("returns a table with another id");
        }
        if keys(&chosen) != keys(&self) {
            return broken("returns a table with other options");
        }
        Ok(chosen)
    }

    /// What the table offers under that name, or NULL.
    pub(crate) fn extension(&self, name: &std::ffi::CStr) -> *const std::ffi::c_void {
        match self.fields.extension {
            // SAFETY: the table's own pointer and a NUL-ended name.
            Some(extension) => unsafe { extension(self.raw, name.as_ptr()) },
            None => std::ptr::null(),
        }
    }

    /// The declared bound of the output of `n` bytes.
    pub(crate) fn bound(&self, n: usize) -> Option<usize> {
        let fields = &self.fields;
        let div = match fields.out_div {
            0 => return None,
            div => u128::from(div),
        };
        let bytes = (n as u128 * u128::from(fields.out_mul)).div_ceil(div) + u128::from(fields.out_add);
        usize::try_from(bytes).ok()
    }

    pub(crate) fn promises(&self, cap: u32) -> bool {
        self.fields.caps & cap != 0
    }
}

/// Pairs for create(): keys with their NUL; values without, each right before forbidden pages.
#[derive(Debug)]
pub(crate) struct Pairs {
    keys: Vec<CString>,
    values: Vec<(GuardedMemory, usize)>,
}

impl Pairs {
    pub(crate) fn new<'a>(options: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Pairs {
        let (keys, values) = options
            .into_iter()
            .map(|(key, value)| {
                let memory = GuardedMemory::new(Region::Input, value.len());
                // SAFETY: that many bytes of a new memory.
                unsafe { memory.end(value.len()).copy_from_nonoverlapping(value.as_ptr(), value.len()) };
                (CString::new(key).unwrap_or_default(), (memory, value.len()))
            })
            .unzip();
        Pairs { keys, values }
    }

    /// Borrowed: use them while this lives.
    pub(crate) fn raw(&self) -> Vec<abi::resay_kv> {
        let values =
            self.values.iter().map(|(memory, len)| abi::resay_bytes { ptr: memory.end(*len), len: *len });
        let keys = self.keys.iter().map(|key| key.as_ptr());
        keys.zip(values).map(|(key, value)| abi::resay_kv { key, value }).collect()
    }
}

fn options(id: &str, fields: &abi::resay_transform) -> Result<Vec<OptionText>, Violation> {
    let broken = |what: String| Violation::of(Promise::Table, format!("{id}: {what}"));
    // SAFETY: of a table that was inspected, and of a library that stays loaded.
    let raw = unsafe { inspect::options(fields) }.map_err(broken)?;
    let mut keys = BTreeSet::new();
    raw.iter()
        .map(|option| {
            let key = field("an option's key", option.key)?.unwrap_or_default();
            let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if key.is_empty() || !key.chars().all(is_letter) {
                return Err(broken(format!("the option key '{key}' is not of the form [A-Za-z0-9_-]+")));
            }
            if !keys.insert(key.clone()) {
                return Err(broken(format!("two options have the key '{key}'")));
            }
            let kind = field("an option's type", option.r#type)?
                .ok_or_else(|| broken(format!("the option '{key}' has no type")))?;
            let fallback = field("an option's fallback", option.fallback)?;
            let help = field("an option's help", option.help)?;
            Ok(OptionText { key, kind, fallback, help })
        })
        .collect()
}

fn field(name: &str, text: *const std::ffi::c_char) -> Result<Option<String>, Violation> {
    // SAFETY: by the ABI NULL or NUL-ended.
    unsafe { c_text(text) }.map_err(|what| Violation::of(Promise::Table, format!("{name} {what}")))
}

/// The dynamic linker's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
