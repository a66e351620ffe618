//! docs/situations.md: what the engine must stand, and the tests that hold it, out of tests/situations.toml and of the
//! tests that ran.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use toml::de::{DeTable, DeValue};

use crate::files::about;
use crate::place::Place;
use crate::report::Outcome;

const LIST: &str = "tests/situations.toml";
const PAGE: &str = "docs/situations.md";
const GUARANTEES: &str = "docs/guarantees.md";

const HEAD: &str = "\
# Situations

What the engine must stand, and the tests that hold it. `cargo xtask test` compares this page with the tests that ran, and
`RESAY_BLESS=1 cargo xtask test` writes it anew out of `tests/situations.toml`. [Guarantees](guarantees.md) has the promises behind it.

Drivers are those with which tests of a row ran; a row without one is about code that has no driver. The simulation, which runs in the
same tests, meets most of these situations in orders of its own.

| | situation | transports | drivers | held by | what does not hold, or is not tried |
|---|---|---|---|---|---|
";

/// Tests that passed, as nextest names them: program and test.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// With the driver that the engine chooses.
    pub(crate) auto: BTreeSet<String>,
    pub(crate) epoll: BTreeSet<String>,
    /// `None`: io_uring is not at hand.
    pub(crate) uring: Option<BTreeSet<String>>,
}

/// Whether every test of the list passed, and the page says so.
pub(crate) fn check(place: &Place, passed: &Passed) -> Outcome {
    let page = match draw(place, passed) {
        Ok(page) => page,
        Err(reason) => return Outcome::Failed(reason),
    };
    if passed.uring.is_none() {
        return Outcome::Skipped(format!("io_uring is not at hand, and {PAGE} is of both drivers"));
    }
    let path = place.root.join(PAGE);
    if std::env::var_os("RESAY_BLESS").is_some() {
        return fs::write(&path, page).map_err(|error| about(&path)(error)).into();
    }
    match fs::read_to_string(&path) {
        Ok(committed) if committed == page => Outcome::Ok,
        Ok(_) => Outcome::Failed(format!(
            "{PAGE} is not what {LIST} and these tests make; RESAY_BLESS=1 cargo xtask test writes it anew"
        )),
        Err(error) => Outcome::Failed(about(&path)(error)),
    }
}

fn draw(place: &Place, passed: &Passed) -> Result<String, String> {
    let read = |name: &str| {
        let path = place.root.join(name);
        fs::read_to_string(&path).map_err(about(&path))
    };
    let list = parse(&read(LIST)?)?;
    let guarantees = read(GUARANTEES)?;
    let mut page = HEAD.to_owned();
    for (index, situation) in list.iter().enumerate() {
        if situation.number != index + 1 {
            return Err(format!("{LIST}: situation {} is in place {}", situation.number, index + 1));
        }
        situation.draw(&guarantees, passed, &mut page)?;
    }
    Ok(page)
}

#[derive(Debug)]
struct Situation {
    number: usize,
    title: String,
    applies: Vec<String>,
    tests: Vec<String>,
    promise: Option<String>,
    limit: Option<String>,
}

impl Situation {
    fn draw(&self, guarantees: &str, passed: &Passed, page: &mut String) -> Result<(), String> {
        let Situation { number, title, .. } = self;
        let title = match &self.promise {
            None => title.clone(),
            Some(promise) if !guarantees.lines().any(|line| line.strip_prefix("## ") == Some(promise)) => {
                return Err(format!("{LIST}: situation {number}: {GUARANTEES} has no section {promise}"));
            }
            Some(promise) => format!("[{title}](guarantees.md#{})", anchor(promise)),
        };
        let mut drivers = BTreeSet::new();
        let mut tests = String::new();
        for test in &self.tests {
            drivers.extend(drivers_of(test, passed).map_err(|why| format!("{LIST}: {number}: {why}"))?);
            // Writing to a String does not fail.
            let _ = write!(tests, "{}`{test}`", if tests.is_empty() { "" } else { "<br>" });
        }
        let drivers: Vec<_> = drivers.into_iter().collect();
        let limit = self.limit.as_deref().unwrap_or_default();
        let row = [title.as_str(), &self.applies.join(", "), &drivers.join(", "), &tests, limit];
        let row: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(page, "| {number} | {} |", row.join(" | "));
        Ok(())
    }
}

/// The drivers with which a test passed; none: it is about something that has no driver.
fn drivers_of(test: &str, passed: &Passed) -> Result<Vec<&'static str>, String> {
    if !passed.auto.contains(test) {
        return Err(format!("{test} did not pass"));
    }
    let one_driver = [("driver::epoll", "epoll"), ("driver::uring", "io_uring")];
    let torture = [("torture::epoll_", "epoll"), ("torture::uring_", "io_uring")];
    let mut drivers: Vec<_> = one_driver
        .into_iter()
        .chain(torture)
        .filter(|(module, _)| test.contains(&format!(" {module}")))
        .map(|(_, driver)| driver)
        .collect();
    if passed.epoll.contains(test) {
        drivers.push("epoll");
    }
    if passed.uring.as_ref().is_some_and(|uring| uring.contains(test)) {
        drivers.push("io_uring");
    }
    if drivers.is_empty() && test.starts_with("resay-cli") {
        drivers.push("auto");
    }
    Ok(drivers)
}

/// As GitHub and rustdoc make it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ' || *letter == '-');
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

fn parse(text: &str) -> Result<Vec<Situation>, String> {
    let table = DeTable::parse(text).map_err(|error| format!("{LIST}: {error}"))?;
    let all = table.get_ref().get("situation").and_then(|all| all.get_ref().as_array());
    let all = all.ok_or_else(|| format!("{LIST}: no [[situation]]"))?;
    all.iter().map(|value| situation(value.get_ref()).map_err(|reason| format!("{LIST}: {reason}"))).collect()
}

fn situation(value: &DeValue<'_>) -> Result<Situation, String> {
    const KEYS: [&str; 6] = ["number", "title", "applies", "tests", "promise", "limit"];
    let table = value.as_table().ok_or("a situation is a table")?;
    let value = |key: &str| table.get(key).map(|value| value.get_ref());
    let text = |key: &str| value(key).and_then(DeValue::as_str).map(str::to_owned);
    let title = text("title").ok_or("a situation has no title")?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
        return Err(format!("{title}: {} is no key", key.get_ref()));
    }
    let number =
        value("number").and_then(DeValue::as_integer).and_then(|number| number.as_str().parse().ok());
    let texts = |key: &str| -> Result<Vec<String>, String> {
        let all = value(key).and_then(DeValue::as_array).ok_or_else(|| format!("{title}: no {key}"))?;
        let all: Vec<_> =
            all.iter().filter_map(|value| value.get_ref().as_str().map(str::to_owned)).collect();
        if all.is_empty() { Err(format!("{title}: no {key}")) } else { Ok(all) }
    };
    Ok(Situation {
        number: number.ok_or_else(|| format!("{title}: no number"))?,
        applies: texts("applies")?,
        tests: texts("tests")?,
        promise: text("promise"),
        limit: text("limit"),
        title,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "[[situation]]\nnumber = 1\ntitle = \"A | B\"\napplies = [\"tcp\"]\ntests = [\"resay::tcp a\"]\n";

    fn passed(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_row_has_the_drivers_that_ran() {
        let list = parse(&format!("{LINE}promise = \"1. Streams\"\n")).unwrap();
        let mut page = String::new();
        let all = passed(&["resay::tcp a"]);
        let passed = Passed { auto: all.clone(), epoll: all.clone(), uring: Some(all) };
        list[0].draw("## 1. Streams\n", &passed, &mut page).unwrap();
        let row = "| 1 | [A \\| B](guarantees.md#1-streams) | tcp | epoll, io_uring | `resay::tcp a` |  |\n";
        assert_eq!(page, row);
        assert!(list[0].draw("## 2. Datagrams\n", &passed, &mut page).is_err());
    }

    #[test]
    fn a_test_that_did_not_pass_is_named() {
        let list = parse(LINE).unwrap();
        let error = list[0].draw("", &Passed::default(), &mut String::new()).unwrap_err();
        assert_eq!(error, "tests/situations.toml: 1: resay::tcp a did not pass");
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        for (text, reason) in [
            ("", "no [[situation]]"),
            (&LINE.replace("title", "titel"), "a situation has no title"),
            (&LINE.replace("applies", "apply"), "A | B: apply is no key"),
            (&LINE.replace("[\"resay::tcp a\"]", "[]"), "A | B: no tests"),
        ] {
            assert!(parse(text).unwrap_err().ends_with(reason), "{text}");
        }
    }
}
