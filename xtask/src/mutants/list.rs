//! The list of mutants.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// Where it is.
pub(super) const PATH: &str = "tests/mutants.toml";

/// One change that tests must notice.
#[derive(Debug, Clone)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// From the root of the repository, in `src/`.
    pub(super) file: String,
    /// Text that stands once in the file, and has `old` in it once.
    pub(super) within: String,
    /// An expression, or statements.
    pub(super) old: String,
    pub(super) new: String,
    /// Each of them must fail.
    pub(super) tests: Vec<Test>,
    /// Both, if none is named.
    pub(super) driver: Option<String>,
    /// Why no test can fail.
    pub(super) lives: Option<String>,
}

impl Mutant {
    /// Whether one of the texts is in its name, or in that of a test; without any, each is meant.
    pub(super) fn is_named(&self, wanted: &[String]) -> bool {
        let texts = || self.tests.iter().map(|test| test.name.as_str()).chain([self.name.as_str()]);
        wanted.is_empty() || wanted.iter().any(|wanted| texts().any(|text| text.contains(wanted.as_str())))
    }
}

/// A test of the engine: `tcp tcp::ending::a_peer_that_never_ends_is_let_go`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// The name of its program, or `lib`.
    pub(super) suite: String,
    name: String,
}

impl Test {
    fn parse(text: &str) -> Result<Test, String> {
        let (suite, name) =
            text.split_once(' ').ok_or_else(|| format!("{text}: a test is a suite and a name"))?;
        Ok(Test { suite: suite.to_owned(), name: name.to_owned() })
    }

    /// As nextest's expressions have it.
    pub(super) fn filter(&self) -> String {
        let kind =
            if self.suite == "lib" { "kind(lib)".to_owned() } else { format!("binary(={})", self.suite) };
        format!("({kind} & test(={}))", self.name)
    }

    /// Looks for it in the sources.
    pub(super) fn find(&self, root: &Path) -> Result<(), String> {
        let mut modules: Vec<&str> = self.name.split("::").collect();
        let function = modules.pop().unwrap_or_default();
        let base = if self.suite == "lib" { "src" } else { "tests" };
        // A module of tests may be in the file of the module that it tests.
        let mut candidates = vec![format!("tests/{}.rs", self.suite)];
        for len in (1..=modules.len()).rev() {
            let path = format!("{base}/{}", modules[..len].join("/"));
            candidates.extend([format!("{path}.rs"), format!("{path}/mod.rs")]);
        }
        // Some are made by macros, of a list of names.
        let heads = [format!("fn {function}()"), format!(" {function}: ")];
        let has_it = |path: &String| {
            fs::read_to_string(root.join(path))
                .is_ok_and(|text| heads.iter().any(|head| text.contains(head.as_str())))
        };
        match candidates.iter().any(has_it) {
            true => Ok(()),
            false => Err(format!("there is no test {} {}", self.suite, self.name)),
        }
    }
}

/// Reads the list.
pub(super) fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let table = DeTable::parse(text).map_err(|error| format!("{PATH}: {error}"))?;
    let all = table.get_ref().get("mutant").and_then(|all| all.get_ref().as_array());
    let all = all.ok_or_else(|| format!("{PATH}: no [[mutant]]"))?;
    all.iter().map(|value| mutant(value.get_ref()).map_err(|reason| format!("{PATH}: {reason}"))).collect()
}

fn mutant(value: &DeValue<'_>) -> Result<Mutant, String> {
    const KEYS: [&str; 8] = ["name", "file", "within", "old", "new", "tests", "driver", "lives"];
    let table = value.as_table().ok_or("a mutant is a table")?;
    let value = |key: &str| table.get(key).map(|value| value.get_ref());
    let optional = |key: &str| value(key).and_then(DeValue::as_str).map(str::to_owned);
    let name = optional("name").ok_or("a mutant has no name")?;
    let needed = |key: &str| optional(key).ok_or_else(|| format!("{name}: no {key}"));
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
        return Err(format!("{name}: {} is no key", key.get_ref()));
    }
    let tests = value("tests").and_then(DeValue::as_array).ok_or_else(|| format!("{name}: no tests"))?;
    let tests = tests.iter().filter_map(|test| test.get_ref().as_str());
    let tests: Vec<_> = tests.map(Test::parse).collect::<Result<_, _>>()?;
    if tests.is_empty() {
        return Err(format!("{name}: no tests"));
    }
    let old = needed("old")?;
    Ok(Mutant {
        file: needed("file")?,
        within: optional("within").unwrap_or_else(|| old.clone()),
        new: needed("new")?,
        tests,
        driver: optional("driver"),
        lives: optional("lives"),
        old,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        let good = "[[mutant]]\nname = \"a\"\nfile = \"src/a.rs\"\nold = \"b\"\nnew = \"c\"\ntests = [\"lib d::e\"]\n";
        let mutants = parse(good).unwrap();
        assert_eq!((mutants.len(), mutants[0].within.as_str()), (1, "b"));
        assert_eq!(mutants[0].tests[0].filter(), "(kind(lib) & test(=d::e))");
        for (text, reason) in [
            ("", "no [[mutant]]"),
            (&good.replace("old", "odd"), "odd is no key"),
            (&good.replace("file = \"src/a.rs\"\n", ""), "a: no file"),
            (&good.replace("lib d::e", "e"), "e: a test is a suite and a name"),
        ] {
            assert!(parse(text).unwrap_err().ends_with(reason), "{text}");
        }
    }

    #[test]
    fn a_test_is_looked_for_where_its_name_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (text, is_there) in [
            ("tcp tcp::ending::a_peer_that_never_ends_is_let_go", true),
            ("udp empty_datagrams_are_answered", true),
            ("lib connection::tests::delayed_answers_keep_their_order", true),
            ("lib buffer::tests::memory_that_is_not_there_is_an_answer", true),
            ("lib buffer::tests::a_peer_that_never_ends_is_let_go", false),
        ] {
            assert_eq!(Test::parse(text).unwrap().find(root).is_ok(), is_there, "{text}");
        }
    }
}
