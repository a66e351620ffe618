//! Instances: made, refused, called for the first time.

use super::{Scene, Verdict};
use crate::child::Request;
use crate::drive::{Breach, How, Instance, Kept, Refusal};
use crate::host::Shape;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::table::{Loaded, OptionText, Pairs};
use resay_plugin::abi;

pub(crate) fn create(request: &Request) -> Kept<Verdict> {
    let scene = Scene::new(request)?;
    drop(scene.subject.create()?);
    Ok(Verdict::Held)
}

/// The first calls, as plain as can be.
pub(crate) fn call(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    let instance = scene.subject.create()?;
    for mode in &scene.subject.modes {
        for parts in [&[&b"hello, world"[..]][..], &[b""], &[b"one", b"", b"two\n", b"three"]] {
            let plan = Plan { mode: *mode, parts: parts.iter().map(|part| part.to_vec()).collect() };
            plan.run(&instance, &mut scene.desk, &How::default())?;
        }
    }
    Ok(Verdict::Held)
}

/// Each declared option with its fallback and with values that make no sense; and what is not given.
pub(crate) fn options(request: &Request) -> Kept<Verdict> {
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
            let mut given = base(&option.key);
            given.push((option.key.clone(), fallback.clone().into_bytes()));
            if let Err(Refusal { status, text }) = attempt(&loaded, request, &given, Some(512))? {
                let what = format!("its own fallback is refused ({status}): {text}");
                return Err(Breach::of(Promise::Options, what).with("option", option.key.clone()));
            }
        }
        for value in garbage() {
            let mut given = base(&option.key);
            given.push((option.key.clone(), value.clone()));
            let quote = String::from_utf8_lossy(&value).chars().take(40).collect::<String>();
            let named =
                |breach: Breach| breach.with("option", format!("{}={}", option.key, quote.escape_debug()));
            let refused = attempt(&loaded, request, &given, Some(512)).map_err(named)?;
            let Err(Refusal { status, text }) = refused else { continue };
            if status == abi::RESAY_E_CONFIG && text.is_empty() {
                let what = "create() answered RESAY_E_CONFIG without a text".to_owned();
                return Err(named(Breach::of(Promise::ErrorText, what)));
            }
            for room in [None, Some(1), Some(2), Some(7), Some(40)] {
                attempt(&loaded, request, &given, room).map_err(named)?.err();
            }
        }
    }
    let must: Vec<&OptionText> = table.options.iter().filter(|option| option.fallback.is_none()).collect();
    for option in must {
        if attempt(&loaded, request, &base(&option.key), Some(512))?.is_ok() {
            let what = "it has no fallback, so it must be given, but create() does without".to_owned();
            return Err(Breach::of(Promise::Options, what).with("option", option.key.clone()));
        }
    }
    Ok(Verdict::Held)
}

/// Options by key.
pub(crate) type Given = Vec<(String, Vec<u8>)>;

/// Calls create() with these options, and destroys what it makes.
pub(crate) fn attempt(
    loaded: &Loaded,
    request: &Request,
    options: &[(String, Vec<u8>)],
    room: Option<usize>,
) -> Kept<Result<(), Refusal>> {
    let pairs = Pairs::new(options.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
    let table = loaded.table(&request.transform)?.select(&pairs.raw())?;
    Ok(Instance::create(&table, &pairs, Shape::Now, room)?.map(drop))
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
