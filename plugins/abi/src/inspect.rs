//! The look at what a plugin describes, before any of its functions is called: whether its pointers can be followed,
//! whether sizes, counts and texts are possible, and whether a table says something that a host can do. The engine and
//! `resay plugin check` both look through this, so that what one refuses the other does.
//!
//! ```text
//! library() ──> transforms[i] ──> transform() ──> id, version, summary
//!           │                          └────────> options() ──> key, type, fallback, help, unit, min, max
//!           └──> filters[i] ────> filter() ──> the same
//! ```
//!
//! Every read is bounded, and an error names the place: `transform 2 ("quote"): option 1 ("mark"): help has no end within
//! 1024 bytes`. An address that no memory is at cannot be told from a right one without touching it.

use crate::abi::{
    self, resay_filter, resay_library, resay_option, resay_select, resay_session_state, resay_transform,
};
use crate::growing::{self, Growing};
use crate::options::{Number, number};
use core::ffi::c_char;
use core::mem::{align_of, offset_of, size_of};
use core::slice;

/// Sessions are small; more is a mistake in the table.
pub const SESSION_BYTES_MAX: u32 = 1024 * 1024;
/// The largest alignment of a session.
pub const SESSION_ALIGN_MAX: u32 = 4096;
/// The longest id of a transform, and the longest key of an option.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest of all other texts.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The largest struct, of whatever revision.
const STRUCT_BYTES_MAX: u32 = 64 * 1024;
/// The most transforms of a library, and the most options of a transform.
const COUNT_MAX: u32 = 4096;

/// What every library and every table has; later fields may be missing.
const LIBRARY_BYTES_MIN: usize = offset_of!(resay_library, init);
const TRANSFORM_BYTES_MIN: usize = offset_of!(resay_transform, option_size);
const FILTER_BYTES_MIN: usize = offset_of!(resay_filter, facts);
/// The size of an option of minor version 0, which a table means that says none.
const OPTION_BYTES_MIN: usize = size_of::<resay_option>();

/// The needs that this revision of the header defines.
const NEEDS_KNOWN: u32 = abi::RESAY_NEED_MESSAGES | abi::RESAY_NEED_OFFLOAD;

/// A library, as it describes itself.
#[derive(Debug)]
pub struct Library {
    /// Its fields, as far as its own struct goes; the rest is zero.
    pub fields: resay_library,
    /// No two have the same id. There is one at least, or a filter.
    pub transforms: Vec<Transform>,
    /// No two have the same id.
    pub filters: Vec<Filter>,
}

/// A table, as it describes itself.
#[derive(Debug)]
pub struct Described<T> {
    /// Where it is: what functions of the table are passed.
    pub raw: *const T,
    /// Its fields, as far as its own struct goes; the rest is zero.
    pub fields: T,
    /// The name, in a chain or an option.
    pub id: &'static str,
    /// Empty: none.
    pub version: &'static str,
    /// Empty: none.
    pub summary: &'static str,
    /// No two have the same key.
    pub options: Vec<OptionTexts>,
}

/// The table of a transform.
pub type Transform = Described<resay_transform>;
/// The table of a filter.
pub type Filter = Described<resay_filter>;

/// An option of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionTexts {
    /// The name.
    pub key: &'static str,
    /// The type of a value.
    pub kind: &'static str,
    /// The default; `None`: it must be given.
    pub fallback: Option<&'static str>,
    /// One line.
    pub help: Option<&'static str>,
    /// What a number counts.
    pub unit: Option<&'static str>,
    /// The least value.
    pub min: Option<&'static str>,
    /// The greatest value.
    pub max: Option<&'static str>,
}

/// Reads a struct that grows, of at least this many bytes.
///
/// # Safety
/// `raw` is NULL, or not aligned, or points to a `T` of at least `struct_size` bytes, and of at least four.
pub unsafe fn read<T: Growing>(name: &str, raw: *const T, bytes_min: usize) -> Result<T, String> {
    if raw.is_null() {
        return Err(format!("the {name} is NULL"));
    }
    if !raw.is_aligned() {
        return Err(format!("the {name} is not at a multiple of {} bytes", align_of::<T>()));
    }
    // SAFETY: aligned, and at least four bytes.
    let bytes = unsafe { raw.cast::<u32>().read() };
    if (bytes as usize) < bytes_min {
        return Err(format!("struct_size {bytes} is too small for a {name} (at least {bytes_min})"));
    }
    if bytes > STRUCT_BYTES_MAX {
        return Err(format!("struct_size {bytes} is too large for a {name} (at most {STRUCT_BYTES_MAX})"));
    }
    // Fields that were added end at a multiple of this: a size between cuts a pointer in two.
    if !(bytes as usize).is_multiple_of(align_of::<T>()) {
        return Err(format!("struct_size {bytes} of the {name} is not a multiple of {}", align_of::<T>()));
    }
    if raw.addr().checked_add(bytes as usize).is_none() {
        return Err(format!("the {name} goes beyond the end of memory"));
    }
    // SAFETY: the caller's.
    Ok(unsafe { growing::read(raw) })
}

/// Reads a library with all of its tables.
///
/// # Safety
/// `raw` is what the entry of a library returned that stays loaded: as for [`read`], and its list has the length that it
/// says, if that is possible; its tables as for [`transform`].
pub unsafe fn library(raw: *const resay_library) -> Result<Library, String> {
    // SAFETY: the caller's.
    let fields = unsafe { read("resay_library", raw, LIBRARY_BYTES_MIN) }?;
    if (fields.n == 0 || fields.transforms.is_null()) && fields.n_filters == 0 {
        return Err("offers no transform".to_owned());
    }
    // SAFETY: the caller's.
    let transforms = unsafe { tables("transform", fields.transforms, fields.n, transform) }?;
    // SAFETY: the caller's.
    let filters = unsafe { tables("filter", fields.filters, fields.n_filters, filter) }?;
    Ok(Library { fields, transforms, filters })
}

/// The tables of a list.
///
/// # Safety
/// As for [`library`], whose list this is, and `read` as for [`transform`].
unsafe fn tables<T: 'static>(
    what: &str,
    first: *const *const T,
    count: u32,
    read: unsafe fn(*const T) -> Result<Described<T>, String>,
) -> Result<Vec<Described<T>>, String> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if first.is_null() {
        return Err(format!("the list of {what}s is NULL, and says to have {count}"));
    }
    // SAFETY: the caller's.
    let list = unsafe { list(&format!("{what}s"), first, count) }?;
    let mut tables: Vec<Described<T>> = Vec::with_capacity(list.len());
    for (index, &raw) in list.iter().enumerate() {
        // SAFETY: the caller's.
        let described = unsafe { read(raw) }.map_err(|error| format!("{what} {}: {error}", index + 1))?;
        if tables.iter().any(|other| other.id == described.id) {
            return Err(format!("{what} {}: offers the id {:?} twice", index + 1, described.id));
        }
        tables.push(described);
    }
    Ok(tables)
}

/// Reads the table of a filter.
///
/// # Safety
/// As for [`transform`].
pub unsafe fn filter(raw: *const resay_filter) -> Result<Filter, String> {
    // SAFETY: the caller's.
    let fields = unsafe { read("resay_filter", raw, FILTER_BYTES_MIN) }?;
    // SAFETY: the caller's.
    let id = unsafe { id(fields.id) }?;
    let named = |what: String| format!("{id}: {what}");
    if fields.receive.is_none() || fields.send.is_none() {
        return Err(named("receive or send is NULL".to_owned()));
    }
    check_memory("conn", fields.conn_size, fields.conn_align).map_err(named)?;
    let declared = Declared {
        table: (raw.addr(), fields.struct_size),
        first: fields.options,
        count: fields.n_options,
        option_size: fields.option_size,
        is_read: fields.create.is_some(),
    };
    // SAFETY: the caller's.
    let (version, summary, options) =
        unsafe { texts(fields.version, fields.summary, &declared) }.map_err(named)?;
    Ok(Filter { raw, fields, id, version, summary, options })
}

/// Reads a table.
///
/// # Safety
/// As for [`read`]; its texts are NULL or have as many bytes as are read (up to their end, or a limit), its options have
/// the number that it says, if that is possible; and all of it stays as it is.
pub unsafe fn transform(raw: *const resay_transform) -> Result<Transform, String> {
    // SAFETY: the caller's.
    let fields = unsafe { read("resay_transform", raw, TRANSFORM_BYTES_MIN) }?;
    // SAFETY: the caller's.
    let id = unsafe { id(fields.id) }?;
    let named = |what: String| format!("{id}: {what}");
    check_functions(&fields).map_err(named)?;
    check_memory("session", fields.session_size, fields.session_align).map_err(named)?;
    let declared = Declared {
        table: (raw.addr(), fields.struct_size),
        first: fields.options,
        count: fields.n_options,
        option_size: fields.option_size,
        is_read: fields.create.is_some(),
    };
    // SAFETY: the caller's.
    let (version, summary, options) =
        unsafe { texts(fields.version, fields.summary, &declared) }.map_err(named)?;
    Ok(Transform { raw, fields, id, version, summary, options })
}

/// The id of a table.
///
/// # Safety
/// As for the texts of [`transform`].
unsafe fn id(raw: *const c_char) -> Result<&'static str, String> {
    // SAFETY: the caller's.
    let id = unsafe { text("the id", raw, NAME_BYTES_MAX) }?.ok_or("the id is missing")?;
    if is_name(id) { Ok(id) } else { Err(format!("the id {id:?} is not a name ([a-z0-9][a-z0-9._-]*)")) }
}

/// What else a table says of itself: version, summary, options.
///
/// # Safety
/// As for the texts and options of [`transform`].
unsafe fn texts(
    version: *const c_char,
    summary: *const c_char,
    declared: &Declared,
) -> Result<(&'static str, &'static str, Vec<OptionTexts>), String> {
    // SAFETY: the caller's.
    let (version, summary) = unsafe { (line("version", version)?, line("summary", summary)?) };
    // SAFETY: the caller's.
    let options = unsafe { options(declared) }?;
    Ok((version.unwrap_or_default(), summary.unwrap_or_default(), options))
}

/// Reads `resay.select/1`, if a transform has it.
///
/// # Safety
/// `raw` is NULL or what `extension()` of a table returned for that name: as for [`read`].
pub unsafe fn select(raw: *const resay_select) -> Result<Option<resay_select>, String> {
    if raw.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's.
    unsafe { read("resay_select", raw, size_of::<resay_select>()) }.map(Some)
}

/// Reads `resay.session-state/1`, if a transform has it: with both functions and the name of a schema.
///
/// # Safety
/// As for [`select`]; the schema as the texts of [`transform`].
pub unsafe fn session_state(raw: *const resay_session_state) -> Result<Option<resay_session_state>, String> {
    if raw.is_null() {
        return Ok(None);
    }
    let name = "resay_session_state";
    // SAFETY: the caller's.
    let state = unsafe { read(name, raw, size_of::<resay_session_state>()) }?;
    // SAFETY: the caller's.
    let schema =
        unsafe { text("schema", state.schema, TEXT_BYTES_MAX) }.map_err(|what| format!("{name}: {what}"))?;
    if schema.is_none_or(str::is_empty) {
        return Err(format!("{name}: schema is missing"));
    }
    if state.save.is_none() || state.load.is_none() {
        return Err(format!("{name}: save or load is NULL"));
    }
    Ok(Some(state))
}

/// Whether a chain can name it: `[a-z0-9][a-z0-9._-]*`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.next().is_some_and(first) && bytes.all(|b| first(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn check_functions(fields: &resay_transform) -> Result<(), String> {
    let unknown = fields.needs & !NEEDS_KNOWN;
    if unknown != 0 {
        return Err(format!("needs what this engine does not know (bits {unknown:#x})"));
    }
    if fields.map.is_none() && fields.process.is_none() {
        return Err("has neither map nor process".to_owned());
    }
    if fields.threading > abi::RESAY_SERIAL {
        return Err(format!("unknown threading {}", fields.threading));
    }
    Ok(())
}

/// Whether a host can allocate what a table wants for each session or connection.
fn check_memory(what: &str, bytes: u32, align: u32) -> Result<(), String> {
    if align != 0 && !(align.is_power_of_two() && align <= SESSION_ALIGN_MAX) {
        return Err(format!("{what}_align {align} is not a power of two up to {SESSION_ALIGN_MAX}"));
    }
    if bytes > SESSION_BYTES_MAX {
        return Err(format!("{what}_size {bytes} is over {SESSION_BYTES_MAX}"));
    }
    Ok(())
}

/// The options that a table declares.
struct Declared {
    /// Where it is, and how large.
    table: (usize, u32),
    first: *const resay_option,
    count: u32,
    option_size: u32,
    /// There is a `create`, which reads their values.
    is_read: bool,
}

/// # Safety
/// As for [`transform`], whose fields these are.
unsafe fn options(declared: &Declared) -> Result<Vec<OptionTexts>, String> {
    let &Declared { table: (table, table_bytes), first, count, option_size, is_read } = declared;
    if count == 0 {
        return Ok(Vec::new());
    }
    if first.is_null() {
        return Err(format!("options is NULL, n_options is {count}"));
    }
    let stride = match option_size as usize {
        0 => OPTION_BYTES_MIN,
        bytes => bytes,
    };
    if stride < OPTION_BYTES_MIN
        || stride > STRUCT_BYTES_MAX as usize
        || !stride.is_multiple_of(align_of::<resay_option>())
    {
        return Err(format!("option_size {stride} is not the size of a resay_option"));
    }
    check_list("options", first.cast::<u8>(), align_of::<resay_option>(), stride, count)?;
    if !is_read {
        return Err("it has options, but create is NULL".to_owned());
    }
    let (begin, end) = (first.addr(), first.addr() + stride * count as usize);
    if begin < table + table_bytes as usize && table < end {
        return Err("options overlap the table".to_owned());
    }
    let mut options: Vec<OptionTexts> = Vec::with_capacity(count as usize);
    for index in 0..count as usize {
        // SAFETY: an option of at least this size, by the caller's contract: the list holds `count` of them.
        let option = unsafe { first.byte_add(index * stride).read() };
        // SAFETY: the caller's.
        let texts = unsafe { option_texts(&option) }.map_err(|what| format!("option {}{what}", index + 1))?;
        if options.iter().any(|other| other.key == texts.key) {
            return Err(format!("two options have the key {:?}", texts.key));
        }
        options.push(texts);
    }
    Ok(options)
}

/// # Safety
/// As for [`transform`], whose option this is.
unsafe fn option_texts(option: &resay_option) -> Result<OptionTexts, String> {
    // SAFETY: the caller's.
    let key = unsafe { text("key", option.key, NAME_BYTES_MAX) }.map_err(|what| format!(": {what}"))?;
    let key = key.ok_or(": key is missing")?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || !key.chars().all(is_letter) {
        return Err(format!(": the key {key:?} is not of the form [A-Za-z0-9_-]+"));
    }
    let named = |what: String| format!(" ({key:?}): {what}");
    // SAFETY: the caller's.
    let texts = unsafe {
        OptionTexts {
            key,
            kind: line("type", option.r#type)
                .map_err(named)?
                .ok_or_else(|| named("type is missing".to_owned()))?,
            fallback: text("fallback", option.fallback, TEXT_BYTES_MAX).map_err(named)?,
            help: line("help", option.help).map_err(named)?,
            unit: line("unit", option.unit).map_err(named)?,
            min: line("min", option.min).map_err(named)?,
            max: line("max", option.max).map_err(named)?,
        }
    };
    check_range(&texts).map_err(named)?;
    Ok(texts)
}

/// Whether the limits are numbers of the type, in order, with the fallback between them.
fn check_range(option: &OptionTexts) -> Result<(), String> {
    if option.min.is_none() && option.max.is_none() {
        return Ok(());
    }
    let read = |name: &str, text: Option<&str>| -> Result<Option<Number>, String> {
        let Some(text) = text else { return Ok(None) };
        number(option.kind, text.as_bytes())
            .map(Some)
            .ok_or_else(|| format!("{name} {text:?} is not a value of the type {:?}", option.kind))
    };
    let (min, max) = (read("min", option.min)?, read("max", option.max)?);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err("min is greater than max".to_owned());
    }
    // A fallback may be a word for "none".
    if let Some(fallback) = option.fallback.and_then(|text| number(option.kind, text.as_bytes()))
        && (min.is_some_and(|min| fallback < min) || max.is_some_and(|max| fallback > max))
    {
        return Err("the fallback is not between min and max".to_owned());
    }
    Ok(())
}

/// # Safety
/// `first` is not NULL; the list has `count` items, if that is possible, and stays.
unsafe fn list<T>(name: &str, first: *const T, count: u32) -> Result<&'static [T], String> {
    check_list(name, first.cast(), align_of::<T>(), size_of::<T>(), count)?;
    // SAFETY: aligned, within memory; the rest is the caller's.
    Ok(unsafe { slice::from_raw_parts(first, count as usize) })
}

fn check_list(name: &str, first: *const u8, align: usize, stride: usize, count: u32) -> Result<(), String> {
    if count > COUNT_MAX {
        return Err(format!("says that it has {count} {name}; at most {COUNT_MAX} are possible"));
    }
    if !first.addr().is_multiple_of(align) {
        return Err(format!("the list of {name} is not at a multiple of {align} bytes"));
    }
    if first.addr().checked_add(stride * count as usize).is_none() {
        return Err(format!("the list of {name} goes beyond the end of memory"));
    }
    Ok(())
}

/// A text of one line.
///
/// # Safety
/// As for [`text`].
unsafe fn line(name: &str, pointer: *const c_char) -> Result<Option<&'static str>, String> {
    // SAFETY: the caller's.
    match unsafe { text(name, pointer, TEXT_BYTES_MAX) }? {
        Some(text) if text.contains('\n') => Err(format!("{name} has more than one line")),
        text => Ok(text),
    }
}

/// # Safety
/// `pointer` is NULL, or a text that stays: readable to its NUL, or for `bytes_max` bytes.
unsafe fn text(name: &str, pointer: *const c_char, bytes_max: usize) -> Result<Option<&'static str>, String> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: no byte behind the NUL is read, and none behind the limit.
    let end = (0..bytes_max).find(|&at| unsafe { pointer.wrapping_add(at).read() } == 0);
    let Some(len) = end else { return Err(format!("{name} has no end within {bytes_max} bytes")) };
    // SAFETY: `len` bytes were read above, and stay.
    let bytes = unsafe { slice::from_raw_parts(pointer.cast::<u8>(), len) };
    core::str::from_utf8(bytes).map(Some).map_err(|_| format!("{name} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr;

    fn library_of(n: u32, transforms: *const *const resay_transform) -> resay_library {
        let struct_size = size_of::<resay_library>() as u32;
        resay_library {
            struct_size,
            abi_minor: 0,
            flags: 0,
            n,
            transforms,
            shutdown: None,
            init: None,
            filters: ptr::null(),
            n_filters: 0,
            reserved: 0,
        }
    }

    #[test]
    fn impossible_counts_and_pointers_are_not_followed() {
        let table: *const resay_transform = ptr::null();
        // SAFETY: what cannot be read is refused before it is.
        let refused = |fields: resay_library| unsafe { library(&fields) }.unwrap_err();
        assert!(refused(library_of(0, &table)).contains("no transform"));
        assert!(refused(library_of(1, ptr::null())).contains("no transform"));
        assert!(refused(library_of(0x7fff_ffff, &table)).contains("2147483647 transforms"));
        assert!(refused(library_of(1, ptr::without_provenance(9))).contains("multiple of 8"));
        assert!(refused(library_of(2, ptr::without_provenance(usize::MAX - 7))).contains("end of memory"));
        assert_eq!(refused(library_of(1, &table)), "transform 1: the resay_transform is NULL");
    }

    #[test]
    fn impossible_tables_are_not_read() {
        let refused = |raw| {
            // SAFETY: NULL, not aligned, or four bytes whose size is refused.
            unsafe { read::<resay_transform>("table", raw, 16) }.map(drop).unwrap_err()
        };
        assert!(refused(ptr::null()).contains("is NULL"));
        assert!(refused(ptr::without_provenance(9)).contains("multiple of 8"));
        for (size, what) in [(12_u64, "too small"), (1 << 30, "too large"), (84, "multiple of 8")] {
            assert!(refused(ptr::from_ref(&size).cast()).contains(what), "{size}");
        }
    }

    unsafe extern "C" fn map(
        _: *mut core::ffi::c_void,
        _: *mut core::ffi::c_void,
        _: *mut u8,
        _: usize,
    ) -> i32 {
        abi::RESAY_OK
    }

    unsafe extern "C" fn create(
        _: *const resay_transform,
        _: *const abi::resay_host,
        _: *const abi::resay_kv,
        _: usize,
        _: *mut *mut core::ffi::c_void,
        _: *mut abi::resay_text,
    ) -> i32 {
        abi::RESAY_OK
    }

    const OPTION: resay_option = resay_option {
        key: c"mark".as_ptr(),
        r#type: c"integer".as_ptr(),
        fallback: c"1".as_ptr(),
        help: ptr::null(),
        unit: ptr::null(),
        min: ptr::null(),
        max: ptr::null(),
    };

    /// What is said of a table with these options after `change`.
    #[track_caller]
    fn said(options: &[resay_option], change: impl FnOnce(&mut resay_transform)) -> String {
        let mut table = resay_transform {
            id: c"quote".as_ptr(),
            options: options.as_ptr(),
            n_options: options.len() as u32,
            create: Some(create),
            map: Some(map),
            ..resay_transform::EMPTY
        };
        change(&mut table);
        // SAFETY: a whole table; what the change made impossible is refused.
        unsafe { transform(&table) }.map_or_else(|what| what, |table| table.id.to_owned())
    }

    #[test]
    fn an_error_names_what_is_wrong_and_where() {
        let endless = [b'x'; 2 * TEXT_BYTES_MAX];
        let endless: *const c_char = endless.as_ptr().cast();
        let option = |change: fn(&mut resay_option)| {
            let mut option = OPTION;
            change(&mut option);
            [OPTION, option]
        };
        let other = |change: fn(&mut resay_option)| {
            let [first, mut second] = option(change);
            second.key = if second.key == first.key { c"tail".as_ptr() } else { second.key };
            said(&[first, second], |_| {})
        };
        assert_eq!(said(&[OPTION], |_| {}), "quote");
        assert_eq!(said(&[], |table| table.id = ptr::null()), "the id is missing");
        assert_eq!(said(&[], |table| table.id = endless), "the id has no end within 128 bytes");
        assert_eq!(said(&[], |table| table.version = endless), "quote: version has no end within 1024 bytes");
        assert_eq!(
            said(&[], |table| table.summary = c"a\nb".as_ptr()),
            "quote: summary has more than one line"
        );
        assert_eq!(said(&[], |table| table.summary = c"\xff".as_ptr()), "quote: summary is not UTF-8");
        assert_eq!(said(&[OPTION], |table| table.create = None), "quote: it has options, but create is NULL");
        assert_eq!(said(&option(|_| {}), |_| {}), "quote: two options have the key \"mark\"");
        assert_eq!(other(|option| option.key = ptr::null()), "quote: option 2: key is missing");
        assert_eq!(
            other(|option| option.key = c"a key".as_ptr()),
            "quote: option 2: the key \"a key\" is not of the form [A-Za-z0-9_-]+"
        );
        assert_eq!(
            other(|option| option.r#type = ptr::null()),
            "quote: option 2 (\"tail\"): type is missing"
        );
        assert_eq!(
            said(&[resay_option { help: endless, ..OPTION }], |_| {}),
            "quote: option 1 (\"mark\"): help has no end within 1024 bytes"
        );
        assert_eq!(
            said(&[OPTION], |table| table.option_size = 20),
            "quote: option_size 20 is not the size of a resay_option"
        );
        assert!(said(&[OPTION], |table| table.n_options = 0x7fff_ffff).contains("2147483647 options"));
        assert_eq!(
            said(&[], |table| {
                table.n_options = 1;
                table.options = ptr::from_ref(table).cast();
            }),
            "quote: options overlap the table"
        );
    }

    #[test]
    fn limits_are_values_of_the_type_and_in_order() {
        let ranged =
            |kind: &'static core::ffi::CStr, min: &'static core::ffi::CStr, max: &'static core::ffi::CStr| {
                let (fallback, kind) = (c"none".as_ptr(), kind.as_ptr());
                let option =
                    resay_option { r#type: kind, fallback, min: min.as_ptr(), max: max.as_ptr(), ..OPTION };
                said(&[option], |_| {})
            };
        for (kind, min, max) in [
            (c"integer", c"-5", c"5"),
            (c"rate", c"1%", c"0.5"),
            (c"duration", c"999us", c"1ms"),
            (c"size", c"1023", c"1k"),
        ] {
            assert_eq!(ranged(kind, min, max), "quote", "{kind:?}");
            assert_eq!(
                ranged(kind, max, min),
                "quote: option 1 (\"mark\"): min is greater than max",
                "{kind:?}"
            );
        }
        assert!(ranged(c"string", c"1", c"2").contains("min \"1\" is not a value of the type \"string\""));
        assert!(ranged(c"size", c"1", c"much").contains("max \"much\" is not a value"));
        let option = resay_option { fallback: c"0".as_ptr(), min: c"1".as_ptr(), ..OPTION };
        assert!(said(&[option], |_| {}).contains("the fallback is not between min and max"));
    }

    /// The options of a later revision are larger: where the next one is, the table says.
    #[test]
    fn options_may_grow() {
        #[repr(C)]
        struct Longer(resay_option, u64);
        let tail = resay_option { key: c"tail".as_ptr(), ..OPTION };
        let longer = [Longer(OPTION, u64::MAX), Longer(tail, u64::MAX)];
        assert!(longer.iter().all(|option| option.1 == u64::MAX));
        let table = resay_transform {
            id: c"quote".as_ptr(),
            options: longer.as_ptr().cast(),
            n_options: 2,
            option_size: size_of::<Longer>() as u32,
            create: Some(create),
            map: Some(map),
            ..resay_transform::EMPTY
        };
        // SAFETY: a whole table, whose list is as large as it says.
        let options = unsafe { transform(&table) }.unwrap().options;
        assert_eq!(options.iter().map(|option| option.key).collect::<Vec<_>>(), ["mark", "tail"]);
    }
}
