//! Libraries and tables: opened, read, and checked against the header.

use crate::child::step;
use crate::guarded::{GuardedMemory, Region};
use crate::promise::Promise;
use crate::verdict::Violation;
use crate::words::{c_text, status_text};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use resay_plugin::abi;
use resay_plugin::inspect::{self, OptionTexts};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Between init() and shutdown(): a child has one library to do with, however often it opens it.
static IS_BEGUN: Mutex<bool> = Mutex::new(false);

const ERROR_BYTES: usize = 512;

/// An opened library. It is not closed when this is dropped: a table, once seen, stays.
#[derive(Debug)]
pub(crate) struct Loaded {
    path: PathBuf,
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
        Ok(Loaded { path: file, library: ManuallyDrop::new(library), entry })
    }

    /// What the entry returns, with its tables, all checked against the header as the engine does.
    pub(crate) fn describe(&self) -> Result<Contents, Violation> {
        let violation = |what| Violation::of(Promise::Table, what);
        // SAFETY: the entry takes any revision.
        let raw = unsafe { (self.entry)(abi::RESAY_PLUGIN_ABI_MINOR) };
        if raw.is_null() {
            let what = format!("resay_plugin_v1({}) returned NULL", abi::RESAY_PLUGIN_ABI_MINOR);
            return Err(violation(format!("{what}: it refuses this host")));
        }
        // SAFETY: by the ABI at least its struct_size, with a list as long as it says; the library stays loaded.
        let library = unsafe { inspect::library(raw) }.map_err(violation)?;
        let inspect::Library { fields, transforms, filters } = library;
        Ok(Contents { library: fields, tables: transforms.into_iter().map(Table::from).collect(), filters })
    }

    /// Calls init(), if the library has it and is not in use yet.
    pub(crate) fn begin(&self) -> Result<(), Violation> {
        let Contents { library, .. } = self.describe()?;
        let mut is_begun = IS_BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_begun && let Some(init) = library.init {
            step("init()");
            let path = CString::new(self.path.as_os_str().as_bytes()).unwrap_or_default();
            let mut text = [0; ERROR_BYTES];
            let mut err = abi::resay_text { buf: text.as_mut_ptr(), cap: text.len() };
            // SAFETY: a function of a library that is loaded; the pointers live during the call.
            let status = unsafe { init(path.as_ptr(), &mut err) };
            if status != abi::RESAY_OK {
                text[ERROR_BYTES - 1] = 0;
                // SAFETY: the last byte is NUL, whatever was written.
                let text = unsafe { c_text(text.as_ptr()) }.ok().flatten().unwrap_or_default();
                let what = format!("init() returned {}: {text}", status_text(status));
                return Err(Violation::of(Promise::Lifecycle, what));
            }
        }
        *is_begun = true;
        Ok(())
    }

    /// Calls shutdown(), if the library has it and is in use. No instance of it lives.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        let Contents { library, .. } = self.describe()?;
        let mut is_begun = IS_BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_begun && let Some(shutdown) = library.shutdown {
            step("shutdown()");
            // SAFETY: a function of a library that is loaded; no instance lives.
            unsafe { shutdown() };
        }
        *is_begun = false;
        Ok(())
    }

    /// The table of that id.
    pub(crate) fn table(&self, id: &str) -> Result<Table, Violation> {
        let Contents { tables, .. } = self.describe()?;
        tables
            .into_iter()
            .find(|table| table.id == id)
            .ok_or_else(|| Violation::of(Promise::Table, format!("there is no transform '{id}'")))
    }
}

/// What a library has in it.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) library: abi::resay_library,
    /// Of transforms.
    pub(crate) tables: Vec<Table>,
    pub(crate) filters: Vec<inspect::Filter>,
}

/// A table of a transform: where it is, and a copy of what it says.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) raw: *const abi::resay_transform,
    pub(crate) fields: abi::resay_transform,
    pub(crate) id: String,
    pub(crate) options: Vec<OptionTexts>,
}

impl From<inspect::Transform> for Table {
    fn from(described: inspect::Transform) -> Table {
        let inspect::Transform { raw, fields, id, options, .. } = described;
        Table { raw, fields, id: id.to_owned(), options }
    }
}

impl Table {
    /// The table for these options: itself, or the one that "resay.select/1" selects.
    pub(crate) fn select(self, options: &[abi::resay_kv]) -> Result<Table, Violation> {
        let violation = |what| Violation::of(Promise::Table, what);
        // SAFETY: an extension of that name is a resay_select of struct_size bytes.
        let select =
            unsafe { inspect::select(self.extension(abi::RESAY_EXT_SELECT).cast()) }.map_err(violation)?;
        let Some(select) = select.and_then(|select| select.select) else { return Ok(self) };
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
        // SAFETY: a table of the same library.
        let chosen = Table::from(unsafe { inspect::transform(chosen) }.map_err(violation)?);
        let keys = |table: &Table| table.options.iter().map(|option| option.key).collect::<Vec<_>>();
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

/// The dynamic linker's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
