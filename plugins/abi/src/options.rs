//! The options of a transform: their declaration, and the getters for create().

use crate::abi;
use crate::error::Error;
use core::ffi::{CStr, c_char};
use core::fmt;
use core::time::Duration;

/// How much of a bad value an error quotes.
const QUOTED_CHARS_MAX: usize = 40;

/// One option that a transform accepts.
///
/// ```
/// use resay_plugin::OptionSpec;
/// const OPTIONS: &[OptionSpec] = &[
///     OptionSpec::duration(c"time", c"how long to hold an answer back"), // must be given
///     OptionSpec::integer(c"seed", c"repeats a run").or(c"0"),           // 0 when not given
/// ];
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct OptionSpec(abi::resay_option);

impl OptionSpec {
    /// Any text. [`Options::text`]
    pub const fn text(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"string", help)
    }

    /// `1` or `true`, `0` or `false`. [`Options::bool`]
    pub const fn bool(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"bool", help)
    }

    /// A whole number. [`Options::integer`]
    pub const fn integer(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"integer", help)
    }

    /// A share of something, `5%` or `0.05`. [`Options::rate`]
    pub const fn rate(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"rate", help)
    }

    /// A time with its unit, `20ms`. [`Options::duration`]
    pub const fn duration(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"duration", help)
    }

    /// A number of bytes, `64k`. [`Options::size`]
    pub const fn size(key: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, c"size", help)
    }

    /// One of several words, `encode|decode`; help shows them in this form. [`Options::choice`]
    pub const fn choice(key: &'static CStr, words: &'static CStr, help: &'static CStr) -> Self {
        Self::of_type(key, words, help)
    }

    /// What a number counts, for help texts: `messages`, `bytes/s`.
    pub const fn unit(mut self, unit: &'static CStr) -> Self {
        self.0.unit = unit.as_ptr();
        self
    }

    /// The least value, written as a value of the type: the getters refuse a smaller one. Of an integer, a rate, a
    /// duration or a size.
    pub const fn at_least(mut self, min: &'static CStr) -> Self {
        self.0.min = min.as_ptr();
        self
    }

    /// The greatest value, in the same way.
    pub const fn at_most(mut self, max: &'static CStr) -> Self {
        self.0.max = max.as_ptr();
        self
    }

    /// The default. An option without a default is required.
    pub const fn or(mut self, fallback: &'static CStr) -> Self {
        self.0.fallback = fallback.as_ptr();
        self
    }

    const fn of_type(key: &'static CStr, kind: &'static CStr, help: &'static CStr) -> Self {
        Self(abi::resay_option {
            key: key.as_ptr(),
            r#type: kind.as_ptr(),
            fallback: core::ptr::null(),
            help: help.as_ptr(),
            unit: core::ptr::null(),
            min: core::ptr::null(),
            max: core::ptr::null(),
        })
    }
}

/// The options of one instance. Each getter returns the value, or the declared default if there is none; its error
/// names the key and the value.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    given: &'a [abi::resay_kv],
    declared: &'a [abi::resay_option],
}

impl<'a> Options<'a> {
    /// # Safety
    /// `declared` are the options of a table of ours, and how many, and `given` what the host passes to create(), for as long
    /// as this is used.
    pub(crate) unsafe fn new(
        declared: Option<(*const abi::resay_option, u32)>,
        given: *const abi::resay_kv,
        n: usize,
    ) -> Self {
        // SAFETY: by the contract: NULL, or so many.
        unsafe {
            let given = if given.is_null() { &[] } else { core::slice::from_raw_parts(given, n) };
            let declared = match declared {
                Some((first, count)) if !first.is_null() => {
                    core::slice::from_raw_parts(first, count as usize)
                }
                _ => &[],
            };
            Self { given, declared }
        }
    }

    /// All values of an option that may be given several times, in their order.
    pub fn all(&self, key: &str) -> Vec<&'a [u8]> {
        // SAFETY: keys are NUL-ended; values are len bytes; both borrowed for 'a.
        let given = self.given.iter().filter(|kv| unsafe { is(kv.key, key) }).map(|kv| kv.value);
        // SAFETY: as above.
        let bytes = |value: abi::resay_bytes| unsafe { core::slice::from_raw_parts(value.ptr, value.len) };
        given.map(|value| if value.len == 0 { &[][..] } else { bytes(value) }).collect()
    }

    /// The value as it was written, or `None` if the option is not set.
    pub fn given(&self, key: &str) -> Option<&'a [u8]> {
        // SAFETY: keys are NUL-ended; values are len bytes; both borrowed for 'a.
        let value = unsafe { self.given.iter().find(|kv| is(kv.key, key))?.value };
        // SAFETY: as above.
        Some(if value.len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(value.ptr, value.len) } })
    }

    /// The value as bytes.
    pub fn bytes(&self, key: &str) -> Result<&'a [u8], Error> {
        if let Some(value) = self.given(key) {
            return Ok(value);
        }
        let Some(option) = self.declared(key) else {
            return Err(Error::config(format!("option '{key}' is not declared by the transform")));
        };
        if option.fallback.is_null() {
            return Err(Error::config(format!("option '{key}' must be given")));
        }
        // SAFETY: a fallback is NUL-ended.
        Ok(unsafe { CStr::from_ptr(option.fallback) }.to_bytes())
    }

    /// The value as bytes, of at most this number.
    pub fn bytes_within(&self, key: &str, bytes_max: usize) -> Result<&'a [u8], Error> {
        let value = self.bytes(key)?;
        if value.len() > bytes_max {
            return Err(refused(key, value, &format!("at most {bytes_max} bytes")));
        }
        Ok(value)
    }

    /// The value as text.
    pub fn text(&self, key: &str) -> Result<&'a str, Error> {
        let value = self.bytes(key)?;
        core::str::from_utf8(value).map_err(|_| refused(key, value, "text in UTF-8"))
    }

    /// `1` or `true`, `0` or `false`.
    pub fn bool(&self, key: &str) -> Result<bool, Error> {
        match self.bytes(key)? {
            b"1" | b"true" => Ok(true),
            b"0" | b"false" => Ok(false),
            value => Err(refused(key, value, "1, 0, true or false")),
        }
    }

    /// A whole number of any integer type: `let seed: u64 = options.integer("seed")?`.
    pub fn integer<N: TryFrom<i128>>(&self, key: &str) -> Result<N, Error> {
        let value = self.bytes(key)?;
        let number = integer(value).ok_or_else(|| refused(key, value, "a whole number"))?;
        self.check_range(key, "integer", value)?;
        N::try_from(number).map_err(|_| refused(key, value, "a number in the range of the option"))
    }

    /// A share of something, `5%` or `0.05`: from 0 to 1.
    pub fn rate(&self, key: &str) -> Result<f64, Error> {
        let value = self.bytes(key)?;
        let rate = rate(value).ok_or_else(|| refused(key, value, "a rate such as 5% or 0.05"))?;
        self.check_range(key, "rate", value)?;
        Ok(rate)
    }

    /// One of several words, and its value: `options.choice("order", &[("be", true), ("le", false)])?`.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, Error> {
        let value = self.bytes(key)?;
        words.iter().find(|(word, _)| word.as_bytes() == value).map(|(_, meaning)| *meaning).ok_or_else(
            || {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                match words.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        refused(key, value, &format!("{} or {last}", rest.join(", ")))
                    }
                    _ => refused(key, value, &words.concat()),
                }
            },
        )
    }

    /// A time with its unit: `us`, `ms`, `s` or `m`. `0` needs no unit.
    pub fn duration(&self, key: &str) -> Result<Duration, Error> {
        let value = self.bytes(key)?;
        let time =
            duration(value).ok_or_else(|| refused(key, value, "a duration such as 20ms (us, ms, s, m)"))?;
        self.check_range(key, "duration", value)?;
        Ok(Duration::from_micros(time))
    }

    /// A number of bytes, without a unit or with `k`, `m` or `g` (powers of 1024).
    pub fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.bytes(key)?;
        let bytes = size(value)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| refused(key, value, "a size such as 64k (k, m, g)"))?;
        self.check_range(key, "size", value)?;
        Ok(bytes)
    }

    fn declared(&self, key: &str) -> Option<&'a abi::resay_option> {
        // SAFETY: keys are NUL-ended.
        self.declared.iter().find(|option| unsafe { is(option.key, key) })
    }

    /// Whether a value of this type is within the limits of its option.
    fn check_range(&self, key: &str, kind: &str, value: &[u8]) -> Result<(), Error> {
        let Some(option) = self.declared(key) else { return Ok(()) };
        let limit = |text: *const c_char| {
            // SAFETY: NULL, or a text of a declaration, which is static.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy())
        };
        let (min, max) = (limit(option.min), limit(option.max));
        let Some(given) = number(kind, value) else { return Ok(()) };
        let of = |text: &Option<_>| {
            text.as_ref().and_then(|text: &std::borrow::Cow<'_, str>| number(kind, text.as_bytes()))
        };
        if of(&min).is_none_or(|min| given >= min) && of(&max).is_none_or(|max| given <= max) {
            return Ok(());
        }
        let expected = match (min, max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (_, max) => format!("at most {}", max.unwrap_or_default()),
        };
        Err(refused(key, value, &expected))
    }

    /// The error for a value that its type allows and the transform does not. It names the key, the value and the
    /// requirement, as in `options.refused("gap", "longer than 0")`.
    pub fn refused(&self, key: &str, expected: &str) -> Error {
        match self.bytes(key) {
            Ok(value) => refused(key, value, expected),
            Err(error) => error,
        }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.given.iter().map(|kv| {
                // SAFETY: keys are NUL-ended, borrowed for 'a.
                let key = unsafe { CStr::from_ptr(kv.key) }.to_string_lossy();
                let value = self.given(&key).map(String::from_utf8_lossy);
                (key, value.unwrap_or_default())
            }))
            .finish()
    }
}

/// # Safety
/// `theirs` is NUL-ended.
unsafe fn is(theirs: *const c_char, key: &str) -> bool {
    // SAFETY: by the contract.
    unsafe { CStr::from_ptr(theirs) }.to_bytes() == key.as_bytes()
}

/// A value of a type that has an order.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Number {
    /// An integer, microseconds or bytes.
    Whole(i128),
    /// A share.
    Share(f64),
}

/// Reads a value of the type `integer`, `rate`, `duration` or `size`; `None`: it is none, or of another type.
pub(crate) fn number(kind: &str, value: &[u8]) -> Option<Number> {
    match kind {
        "integer" => integer(value).map(Number::Whole),
        "rate" => rate(value).map(Number::Share),
        "duration" => duration(value).map(|time| Number::Whole(time.into())),
        "size" => size(value).map(|bytes| Number::Whole(bytes.into())),
        _ => None,
    }
}

fn integer(value: &[u8]) -> Option<i128> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn rate(value: &[u8]) -> Option<f64> {
    let rate = match value.strip_suffix(b"%") {
        Some(percent) => decimal(percent)? / 100.0,
        None => decimal(value)?,
    };
    (0.0..=1.0).contains(&rate).then_some(rate)
}

/// Reads `12`, `0.5`, `.5`, `5.` or `5e-3`, to the last digit if there are 15 at most. The standard library's reader of any
/// number there is takes 16 KiB in each plugin.
fn decimal(text: &[u8]) -> Option<f64> {
    let mut parts = text.splitn(2, |byte| byte.eq_ignore_ascii_case(&b'e'));
    let (digits, exponent) = (parts.next()?, parts.next());
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for digit in whole.iter().chain(fraction) {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    let exponent = exponent.map_or(Some(0), |exponent| i32::try_from(integer(exponent)?).ok())?;
    let places = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    // All powers of ten up to this one are exact.
    let power = (0..places.unsigned_abs().min(22)).fold(1.0, |power, _| power * 10.0);
    match places {
        -22..0 => Some(number as f64 / power),
        0..=22 => Some(number as f64 * power),
        _ => None,
    }
}

/// In microseconds.
fn duration(value: &[u8]) -> Option<u64> {
    const MICROSECONDS: &[(&str, u64)] = &[("us", 1), ("ms", 1000), ("s", 1_000_000), ("m", 60_000_000)];
    match split_unit(value)? {
        (0, "") => Some(0),
        (number, unit) => scaled(number, unit, MICROSECONDS),
    }
}

/// In bytes.
fn size(value: &[u8]) -> Option<u64> {
    const BYTES: &[(&str, u64)] = &[("", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];
    let (number, unit) = split_unit(value)?;
    scaled(number, unit, BYTES)
}

fn split_unit(value: &[u8]) -> Option<(u64, &str)> {
    let text = core::str::from_utf8(value).ok()?;
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    Some((number.parse().ok()?, unit))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn refused(key: &str, value: &[u8], expected: &str) -> Error {
    let text = String::from_utf8_lossy(value);
    let quoted: String = text.chars().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(QUOTED_CHARS_MAX).is_some() { "…" } else { "" };
    Error::config(format!("option '{key}' is '{quoted}{more}', but must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &[OptionSpec] = &[
        OptionSpec::text(c"name", c""),
        OptionSpec::bool(c"flag", c"").or(c"0"),
        OptionSpec::duration(c"time", c"").or(c"20ms"),
        OptionSpec::integer(c"count", c"").at_least(c"1").at_most(c"9"),
        OptionSpec::size(c"room", c"").at_least(c"1k"),
        OptionSpec::rate(c"share", c"").at_most(c"50%"),
    ];

    /// What `read` makes of `x=value`.
    fn given<T>(value: &[u8], read: impl FnOnce(&Options<'_>) -> T) -> T {
        let value = abi::resay_bytes { ptr: value.as_ptr(), len: value.len() };
        let declared: Vec<_> = DECLARED.iter().map(|option| option.0).collect();
        read(&Options { given: &[abi::resay_kv { key: c"x".as_ptr(), value }], declared: &declared })
    }

    fn texts<T: fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().text().to_owned()
    }

    #[test]
    fn fallbacks() {
        given(b"", |options| {
            assert_eq!(options.given("x"), Some(&b""[..]));
            assert_eq!(options.given("flag"), None);
            assert_eq!(options.bool("flag"), Ok(false));
            assert_eq!(options.duration("time"), Ok(Duration::from_millis(20)));
            assert_eq!(texts(options.text("name")), "option 'name' must be given");
            assert_eq!(texts(options.text("nome")), "option 'nome' is not declared by the transform");
        });
    }

    #[test]
    fn values() {
        for (value, expected) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            assert_eq!(given(value.as_bytes(), |o| o.bool("x")), Ok(expected));
        }
        assert_eq!(given(b"18446744073709551615", |o| o.integer::<u64>("x")), Ok(u64::MAX));
        assert_eq!(given(b"-128", |o| o.integer::<i8>("x")), Ok(-128));
        for text in [
            "0",
            "1",
            "0.1",
            ".5",
            "1.",
            "0.123456789012345",
            "5e-3",
            "1E0",
            "25e-2",
            "0.000000000001",
            "0.3e+0",
        ] {
            assert_eq!(rate(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in [
            "",
            ".",
            "e1",
            "1e",
            "1.5",
            "-0.1",
            "nan",
            "inf",
            "1e-99",
            "0x1",
            "0.1.1",
            "99999999999999999999",
            "1 ",
        ] {
            assert_eq!(rate(text.as_bytes()), None, "{text}");
        }
        assert_eq!(given(b"5%", |o| o.rate("x")), Ok(0.05));
        assert_eq!(given(b"0.5", |o| o.rate("x")), Ok(0.5));
        for (value, micros) in
            [("7us", 7), ("20ms", 20_000), ("3s", 3_000_000), ("2m", 120_000_000), ("0", 0)]
        {
            assert_eq!(given(value.as_bytes(), |o| o.duration("x")), Ok(Duration::from_micros(micros)));
        }
        for (value, bytes) in [("7", 7), ("64k", 65_536), ("1m", 1 << 20), ("1g", 1 << 30), ("0", 0)] {
            assert_eq!(given(value.as_bytes(), |o| o.size("x")), Ok(bytes));
        }
        assert_eq!(given(b"abc", |o| o.bytes_within("x", 3).map(<[u8]>::len)), Ok(3));
        let words = &[("encode", 1), ("decode", 2)];
        assert_eq!(given(b"encode", |o| o.choice("x", words)), Ok(1));
        assert_eq!(given(b"decode", |o| o.choice("x", words)), Ok(2));
        assert_eq!(given("größe".as_bytes(), |o| o.text("x").map(str::to_owned)), Ok("größe".to_owned()));
    }

    #[test]
    fn a_declared_range_is_kept_by_the_getters() {
        let given = |key: &'static CStr, value: &'static str| {
            let declared: Vec<_> = DECLARED.iter().map(|option| option.0).collect();
            let value = abi::resay_bytes { ptr: value.as_ptr(), len: value.len() };
            let kv = [abi::resay_kv { key: key.as_ptr(), value }];
            let options = Options { given: &kv, declared: &declared };
            match key.to_str().unwrap() {
                "count" => options.integer::<u8>("count").map(usize::from),
                "share" => options.rate("share").map(|share| (share * 100.0) as usize),
                key => options.size(key),
            }
            .map_err(|error| error.text().to_owned())
        };
        assert_eq!(given(c"count", "1"), Ok(1));
        assert_eq!(given(c"count", "9"), Ok(9));
        for value in ["0", "10", "-1", "1000"] {
            let text = format!("option 'count' is '{value}', but must be from 1 to 9");
            assert_eq!(given(c"count", value), Err(text));
        }
        assert_eq!(given(c"room", "2k"), Ok(2048));
        assert_eq!(
            given(c"room", "1023"),
            Err("option 'room' is '1023', but must be at least 1k".to_owned())
        );
        assert_eq!(given(c"share", "0.5"), Ok(50));
        assert_eq!(
            given(c"share", "51%"),
            Err("option 'share' is '51%', but must be at most 50%".to_owned())
        );
    }

    #[test]
    fn errors_name_the_key_and_the_value() {
        assert_eq!(
            texts(given(b"yes", |o| o.bool("x"))),
            "option 'x' is 'yes', but must be 1, 0, true or false"
        );
        assert_eq!(
            texts(given(b"256", |o| o.integer::<u8>("x"))),
            "option 'x' is '256', but must be a number in the range of the option"
        );
        for bad in [&b""[..], b"x", b"1.5", b" 1", b"1 ", b"\xff"] {
            assert!(given(bad, |o| o.integer::<u8>("x")).is_err(), "{bad:?}");
        }
        for bad in [&b""[..], b"ms", b"20", b"20 ms", b"-1ms", b"1h", b"99999999999999999999s", b"\xff"] {
            assert!(given(bad, |o| o.duration("x")).is_err(), "{bad:?}");
        }
        for bad in [&b""[..], b"k", b"1K", b"1kb", b"-1", b"99999999999g", b"\xff"] {
            assert!(given(bad, |o| o.size("x")).is_err(), "{bad:?}");
        }
        assert_eq!(
            texts(given(b"abcd", |o| o.bytes_within("x", 3).map(<[u8]>::len))),
            "option 'x' is 'abcd', but must be at most 3 bytes"
        );
        for bad in [&b""[..], b"%", b"101%", b"1.01", b"-1%", b"nan", b"\xff"] {
            assert!(given(bad, |o| o.rate("x")).is_err(), "{bad:?}");
        }
        assert_eq!(
            texts(given(b"a\xff\n", |o| o.text("x").map(str::to_owned))),
            "option 'x' is 'a\u{fffd}\\n', but must be text in UTF-8"
        );
        let words = &[("one", 1), ("two", 2), ("three", 3)];
        for (n, expected) in [(1, "one"), (2, "one or two"), (3, "one, two or three")] {
            assert_eq!(
                texts(given(b"One", |o| o.choice("x", &words[..n]))),
                format!("option 'x' is 'One', but must be {expected}")
            );
        }
        assert_eq!(
            given(b"0", |o| o.refused("x", "at least 1")).text(),
            "option 'x' is '0', but must be at least 1"
        );
        assert_eq!(given(b"", |o| o.refused("name", "short")).text(), "option 'name' must be given");
        let long = texts(given(&[b'7'; 400], |o| o.bool("x")));
        assert!(long.contains("…") && long.len() < 120, "{long}");
    }
}
