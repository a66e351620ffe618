//! Instances: made, refused, called for the first time.

use crate::drive::{How, Instance, Refusal};
use crate::fixture::Fixture;
use crate::host::HostVersion;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::request::Request;
use crate::table::{Loaded, Pairs};
use crate::verdict::{Check, Verdict, Violation};
use resay_plugin::abi;
use resay_plugin::inspect::OptionTexts;

pub(crate) fn create(request: &Request) -> Check<Verdict> {
    let fixture = Fixture::new(request)?;
    drop(fixture.subject.create()?);
    Ok(Verdict::Passed)
}

/// The first calls, as plain as can be.
pub(crate) fn call(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    let instance = fixture.subject.create()?;
    for mode in &fixture.subject.modes {
        for parts in [&[&b"hello, world"[..]][..], &[b""], &[b"one", b"", b"two\n", b"three"]] {
            let plan = Plan { mode: *mode, parts: parts.iter().map(|part| part.to_vec()).collect() };
            plan.run(&instance, &mut fixture.arena, &How::default())?;
        }
    }
    Ok(Verdict::Passed)
}

/// Each declared option with its fallback and with values that make no sense; and what is not given.
pub(crate) fn options(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let table = loaded.table(&request.transform)?;
    if table.options.is_empty() {
        return Ok(Verdict::Skipped("it has no options".to_owned()));
    }
    let base = |except: &str| -> Given {
        request
            .options
            .iter()
            .filter(|(key, _)| key != except)
            .map(|(key, value)| (key.clone(), value.clone().into_bytes()))
            .collect()
    };
    for option in &table.options {
        if let Some(fallback) = &option.fallback {
            let mut given = base(option.key);
            given.push((option.key.to_owned(), fallback.as_bytes().to_vec()));
            if let Err(Refusal { status, text }) = attempt(&loaded, request, &given, Some(512))? {
                let what = format!("create() refuses the option's own fallback ({status}): {text}");
                return Err(Violation::of(Promise::Options, what).with("option", option.key.to_owned()));
            }
        }
        limits(option, |value| {
            let mut given = base(option.key);
            given.push((option.key.to_owned(), value.as_bytes().to_vec()));
            attempt(&loaded, request, &given, Some(512))
        })?;
        for value in garbage() {
            let mut given = base(option.key);
            given.push((option.key.to_owned(), value.clone()));
            let quote = String::from_utf8_lossy(&value).chars().take(40).collect::<String>();
            let named = |violation: Violation| {
                violation.with("option", format!("{}={}", option.key, quote.escape_debug()))
            };
            let refused = attempt(&loaded, request, &given, Some(512)).map_err(named)?;
            let Err(Refusal { status, text }) = refused else { continue };
            if status == abi::RESAY_E_CONFIG && text.is_empty() {
                let what = "create() returned RESAY_E_CONFIG without an error text".to_owned();
                return Err(named(Violation::of(Promise::ErrorText, what)));
            }
            for room in [None, Some(1), Some(2), Some(7), Some(40)] {
                attempt(&loaded, request, &given, room).map_err(named)?.err();
            }
        }
    }
    let must: Vec<&OptionTexts> = table.options.iter().filter(|option| option.fallback.is_none()).collect();
    for option in must {
        if attempt(&loaded, request, &base(option.key), Some(512))?.is_ok() {
            let what =
                "the option has no fallback, so it is required, but create() succeeds without it".to_owned();
            return Err(Violation::of(Promise::Options, what).with("option", option.key.to_owned()));
        }
    }
    Ok(Verdict::Passed)
}

/// The limits of an option are accepted, and what is beyond them is refused.
fn limits(option: &OptionTexts, create: impl Fn(&str) -> Check<Result<(), Refusal>>) -> Check<()> {
    let violation =
        |what: String| Err(Violation::of(Promise::Options, what).with("option", option.key.to_owned()));
    for (name, limit, step) in [("min", option.min, -1), ("max", option.max, 1)] {
        let Some(limit) = limit else { continue };
        if let Err(Refusal { status, text }) = create(limit)? {
            return violation(format!("create() refuses {name}, {limit} ({status}): {text}"));
        }
        if let Some(beyond) = beyond(limit, step)
            && create(&beyond)?.is_ok()
        {
            return violation(format!("create() accepts {beyond}, but {name} is {limit}"));
        }
    }
    Ok(())
}

/// A limit with its number changed by this much, if that is a value of the type: `1k` becomes `2k`, `5%` `4%`.
fn beyond(limit: &str, step: i128) -> Option<String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '-';
    let (number, unit) = limit.split_at(limit.find(|c| !is_number(c)).unwrap_or(limit.len()));
    if unit.starts_with('.') {
        return None;
    }
    let changed = number.parse::<i128>().ok()?.checked_add(step)?;
    // A type without signs has nothing below 0, and a rate nothing above 100 %.
    if (changed < 0 && !number.starts_with('-') && (!unit.is_empty() || number == "0"))
        || (unit == "%" && changed > 100)
    {
        return None;
    }
    Some(format!("{changed}{unit}"))
}

/// Options by key.
pub(crate) type Given = Vec<(String, Vec<u8>)>;

/// Calls create() with these options, and destroys what it makes.
pub(crate) fn attempt(
    loaded: &Loaded,
    request: &Request,
    options: &[(String, Vec<u8>)],
    room: Option<usize>,
) -> Check<Result<(), Refusal>> {
    loaded.begin()?;
    let pairs = Pairs::new(options.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
    let table = loaded.table(&request.transform)?.select(&pairs.raw())?;
    Ok(Instance::create(&table, &pairs, HostVersion::Now, room)?.map(drop))
}

/// Values that no option should take, and some that it may.
pub(crate) fn garbage() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"",
        b"0",
        b"1",
        b"-1",
        b"x",
        b" ",
        b"true",
        b"NaN",
        b"1e999",
        b"99999999999999999999999999",
        b"-9223372036854775809",
        b"1ms 2ms",
        b"101%",
        b"%s%s%s%n",
        b"a\0b",
        b"\0",
        b"\xff\xfe\x80",
        b"\xf0\x9f\x98",
        "größer—日本".as_bytes(),
    ];
    let mut values: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    values.push(vec![b'9'; 70_000]);
    values.push("é".repeat(4000).into_bytes());
    values
}
