//! What there is: transforms with their options, options of engines and listeners, counters.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::LazyLock;

use resay_plugin::abi::resay_option;

use super::callback::run_free;
use super::engine::{Waits, resay_engine, with_engine};
use super::error::{Failure, call, resay_error};
use super::memory::text_of;
use crate::options::{AddressKind, ENGINE_KEYS, KEYS, ValueType};
use crate::{Error, OptionHelp, TransformInfo, TransformOrigin};

/// In resay_option_info.flags: an option of the engine, see resay_set. All others are those of listeners.
pub const RESAY_OPTION_ENGINE: u32 = 1u32;
/// In resay_option_info.flags: it applies to tcp listeners.
pub const RESAY_OPTION_TCP: u32 = 2u32;
/// In resay_option_info.flags: it applies to udp listeners.
pub const RESAY_OPTION_UDP: u32 = 4u32;
/// In resay_option_info.flags: it applies to unix listeners.
pub const RESAY_OPTION_UNIX: u32 = 8u32;
/// In resay_option_info.flags: it applies to unix-dgram listeners.
pub const RESAY_OPTION_UNIX_DGRAM: u32 = 16u32;
/// In resay_option_info.flags: it applies to unix-seqpacket listeners.
pub const RESAY_OPTION_UNIX_SEQPACKET: u32 = 32u32;
/// In resay_option_info.flags: it applies to sockets that the program opened.
pub const RESAY_OPTION_INHERITED: u32 = 64u32;

/// A transform that a chain can name. Valid during the call that it is passed to. No pointer is NULL, except where its
/// comment says so.
#[repr(C)]
pub struct resay_transform_info {
    /// Bytes of this struct that the library knows.
    pub struct_size: u32,
    /// Its promises: RESAY_CAP_ bits.
    pub caps: u32,
    /// Its requirements: RESAY_NEED_ bits.
    pub needs: u32,
    /// RESAY_SHARED, RESAY_PER_WORKER or RESAY_SERIAL.
    pub threading: u32,
    /// The name in a chain; "" if fault is not NULL.
    pub id: *const c_char,
    /// Its version, or "".
    pub version: *const c_char,
    /// One line of description, or "".
    pub summary: *const c_char,
    /// "registered": by this program; "bundled": in the library; else the path of the plugin file.
    pub origin: *const c_char,
    /// options_count options; NULL if there are none. An option that is required has no fallback: NULL.
    pub options: *const resay_option,
    /// The number of options.
    pub options_count: usize,
    /// Bytes from one option to the next: sizeof(resay_option) in the library.
    pub option_size: u32,
    /// 0.
    pub zero: u32,
    /// NULL. If a file in a plugin directory cannot be used: the reason.
    pub fault: *const c_char,
}

/// An option of engines or listeners. Valid as long as the library is loaded. No pointer is NULL.
#[repr(C)]
pub struct resay_option_info {
    /// Bytes of this struct that the library knows.
    pub struct_size: u32,
    /// RESAY_OPTION_ bits.
    pub flags: u32,
    /// The name.
    pub key: *const c_char,
    /// What a value is, apart from words such as "auto": "string", "bool", "integer", "size", "duration", "rate", "octal"
    /// or "list".
    pub r#type: *const c_char,
    /// The unit of a number without one, such as "bytes"; "": there is none, or it must be written, as of a duration.
    pub unit: *const c_char,
    /// The default, as resay_set accepts it; "": not set.
    pub fallback: *const c_char,
    /// The least number, of a list the least element, as resay_set accepts it; "": no range.
    pub min: *const c_char,
    /// The largest.
    pub max: *const c_char,
    /// One line of help.
    pub help: *const c_char,
    /// The form of a value with its words, such as "SIZE|auto".
    pub value: *const c_char,
}

/// Receives one transform. Called on the calling thread, before the call returns. It may call functions that take an
/// engine, but not free the one that is asked. It must not throw or longjmp.
pub type resay_each_transform =
    Option<unsafe extern "C" fn(user: *mut c_void, transform: *const resay_transform_info)>;

/// Receives one option. Called on the calling thread, before the call returns. It must not throw or longjmp.
pub type resay_each_option =
    Option<unsafe extern "C" fn(user: *mut c_void, option: *const resay_option_info)>;

/// Receives one counter. The name is "transform.counter", valid during the call. Called on the calling thread, before the
/// call returns. It may call functions that take an engine, but not free the one that is asked. It must not throw or
/// longjmp.
pub type resay_each_counter =
    Option<unsafe extern "C" fn(user: *mut c_void, name: *const c_char, value: u64)>;

/// [*] Adds a directory with plugins: chains that are set from now on find them by name. It is searched after directories
/// that were added before, and before those of RESAY_PLUGIN_PATH and the installed ones. A relative path is taken from the
/// working directory of now.
/// Returns 0; RESAY_E_SYS: it is no directory, RESAY_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_plugin_dir(
    engine: *mut resay_engine,
    directory: *const c_char,
    err: *mut resay_error,
) -> c_int {
    with_engine(engine, Waits::No, err, |engine| {
        // SAFETY: the caller's pointer, as documented.
        engine.engine.plugin_dir(Path::new(unsafe { text_of(directory, "directory")? }))?;
        Ok(0)
    })
}

/// [*] Calls each for every transform that a chain of the engine can name; with NULL as the engine, of an engine that is
/// new. This loads the plugins in the plugin directories. Files there that cannot be used are passed to each after all
/// transforms, with the reason as fault; libraries that are no plugins are not.
/// Returns the number of transforms; RESAY_E_ARG: each is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_transforms(
    engine_or_null: *mut resay_engine,
    each: resay_each_transform,
    user: *mut c_void,
    err: *mut resay_error,
) -> c_int {
    let call_each = |(transforms, errors): (Vec<TransformInfo>, Vec<Error>)| {
        let each = each.ok_or_else(|| Failure::null("each"))?;
        let described = transforms.iter().map(Described::of);
        for described in described.chain(errors.iter().map(Described::fault)) {
            // SAFETY: the host's function, with its own user and a struct that lives during the call.
            run_free(|| unsafe { each(user, &described.info()) });
        }
        Ok(count(transforms.len()))
    };
    if engine_or_null.is_null() {
        return call(err, || call_each(crate::transforms(&[])));
    }
    with_engine(engine_or_null, Waits::No, err, |engine| call_each(engine.engine.transforms()))
}

/// [*] Calls each for every option that resay_set knows: first those of engines, then those of listeners, which URLs take too.
/// Returns their number; RESAY_E_ARG: each is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_options(each: resay_each_option, user: *mut c_void) -> c_int {
    call(ptr::null_mut(), || {
        let each = each.ok_or_else(|| Failure::null("each"))?;
        for option in OPTIONS.iter() {
            // SAFETY: the host's function, with its own user and a struct that stays.
            run_free(|| unsafe { each(user, &option.info) });
        }
        Ok(count(OPTIONS.len()))
    })
}

/// [*] Calls each for every counter that the engine's transforms keep. Counters of chains that were replaced stay.
/// Returns their number; RESAY_E_ARG: each is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resay_counters(
    engine: *mut resay_engine,
    each: resay_each_counter,
    user: *mut c_void,
) -> c_int {
    with_engine(engine, Waits::No, ptr::null_mut(), |engine| {
        let each = each.ok_or_else(|| Failure::null("each"))?;
        let counters = engine.engine.transform_counters();
        for (name, value) in &counters {
            let name = text(name);
            // SAFETY: the host's function, with its own user and a name that lives during the call.
            run_free(|| unsafe { each(user, name.as_ptr(), *value) });
        }
        Ok(count(counters.len()))
    })
}

fn count(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}

/// A text of C. Those of transforms were C's before, and the engine's own have no NUL.
fn text(of: &str) -> CString {
    CString::new(of).unwrap_or_default()
}

/// A transform, with the memory of its texts.
struct Described {
    caps: u32,
    needs: u32,
    threading: u32,
    /// id, version, summary, origin
    texts: [CString; 4],
    fault: Option<CString>,
    /// Point into `option_texts`.
    options: Vec<resay_option>,
    _option_texts: Vec<[CString; 7]>,
}

impl Described {
    fn of(transform: &TransformInfo) -> Described {
        let origin = match &transform.origin {
            TransformOrigin::Registered => "registered".into(),
            TransformOrigin::Bundled => "bundled".into(),
            TransformOrigin::File(path) => path.to_string_lossy(),
        };
        let option_texts: Vec<_> = transform
            .options
            .iter()
            .map(|option| {
                let OptionHelp { key, kind, fallback, help, unit, min, max } = *option;
                [key, kind, fallback.unwrap_or_default(), help, unit, min, max].map(text)
            })
            .collect();
        let or_null = |text: &CString| if text.is_empty() { ptr::null() } else { text.as_ptr() };
        let options = transform.options.iter().zip(&option_texts).map(|(option, texts)| {
            let [key, kind, fallback, help, unit, min, max] = texts;
            resay_option {
                key: key.as_ptr(),
                r#type: kind.as_ptr(),
                // One that is "" is a default too.
                fallback: option.fallback.map_or(ptr::null(), |_| fallback.as_ptr()),
                help: help.as_ptr(),
                unit: or_null(unit),
                min: or_null(min),
                max: or_null(max),
            }
        });
        Described {
            caps: transform.caps,
            needs: transform.needs,
            threading: transform.threading,
            texts: [&*transform.id, &transform.version, &transform.summary, &origin].map(text),
            fault: None,
            options: options.collect(),
            _option_texts: option_texts,
        }
    }

    fn fault(error: &Error) -> Described {
        let (origin, reason) = match error {
            Error::Plugin { path, reason } => (path.to_string_lossy(), reason.clone()),
            other => ("".into(), other.to_string()),
        };
        Described {
            caps: 0,
            needs: 0,
            threading: 0,
            texts: ["", "", "", &origin].map(text),
            fault: Some(text(&reason)),
            options: Vec::new(),
            _option_texts: Vec::new(),
        }
    }

    /// Valid as long as this.
    fn info(&self) -> resay_transform_info {
        let [id, version, summary, origin] = self.texts.each_ref().map(|text| text.as_ptr());
        resay_transform_info {
            struct_size: size_of::<resay_transform_info>() as u32,
            caps: self.caps,
            needs: self.needs,
            threading: self.threading,
            id,
            version,
            summary,
            origin,
            options: if self.options.is_empty() { ptr::null() } else { self.options.as_ptr() },
            options_count: self.options.len(),
            option_size: size_of::<resay_option>() as u32,
            zero: 0,
            fault: self.fault.as_ref().map_or(ptr::null(), |fault| fault.as_ptr()),
        }
    }
}

/// An option, with the memory of its texts.
struct OptionRow {
    info: resay_option_info,
    _texts: [CString; 8],
}

// SAFETY: the pointers lead to texts that the row has beside them, and that nobody changes.
unsafe impl Send for OptionRow {}
// SAFETY: as above.
unsafe impl Sync for OptionRow {}

static OPTIONS: LazyLock<Vec<OptionRow>> = LazyLock::new(|| {
    let of_engines = ENGINE_KEYS.iter().map(|key| {
        OptionRow::new(RESAY_OPTION_ENGINE, [key.name, key.fallback, key.help, key.value], &key.kind)
    });
    let of_listeners = KEYS.iter().map(|key| {
        let flags = key.applies.iter().fold(0, |flags, kind| flags | flag_of(*kind));
        OptionRow::new(flags, [key.name, key.fallback, key.help, key.value], &key.kind)
    });
    of_engines.chain(of_listeners).collect()
});

impl OptionRow {
    fn new(flags: u32, [key, fallback, help, value]: [&str; 4], kind: &ValueType) -> OptionRow {
        let texts = [key, kind.name, kind.unit, fallback, kind.min, kind.max, help, value].map(text);
        let [key, r#type, unit, fallback, min, max, help, value] = texts.each_ref().map(|text| text.as_ptr());
        let struct_size = size_of::<resay_option_info>() as u32;
        let info =
            resay_option_info { struct_size, flags, key, r#type, unit, fallback, min, max, help, value };
        OptionRow { info, _texts: texts }
    }
}

fn flag_of(kind: AddressKind) -> u32 {
    match kind {
        AddressKind::Tcp => RESAY_OPTION_TCP,
        AddressKind::Udp => RESAY_OPTION_UDP,
        AddressKind::UnixStream => RESAY_OPTION_UNIX,
        AddressKind::UnixDatagram => RESAY_OPTION_UNIX_DGRAM,
        AddressKind::UnixSeqpacket => RESAY_OPTION_UNIX_SEQPACKET,
        AddressKind::Inherited => RESAY_OPTION_INHERITED,
    }
}
