//! The committed counts, and what they were taken with: other compilers make other instructions.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::result::Result;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// How far a count may be from the committed one, either way: what became cheaper is to be kept as well.
const TOLERANCE: f64 = 0.03;

pub(crate) struct Baseline {
    pub(crate) toolchain: Toolchain,
    pub(crate) counts: Vec<(String, f64)>,
}

/// On what counts depend besides the code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    rustc: String,
    valgrind: String,
    /// Vector instructions that the C library and memchr choose between when they run.
    vectors: String,
}

impl Toolchain {
    pub(crate) fn of_this_machine(valgrind: String) -> Result<Toolchain> {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(program).arg("-vV").output()?;
        let text = String::from_utf8(output.stdout)?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let rustc = format!("{} {}", value("release: "), value("host: "));
        Ok(Toolchain { rustc, valgrind, vectors: vectors().to_owned() })
    }

    /// Why counts of the one say nothing about the other.
    pub(crate) fn difference(&self, here: &Toolchain) -> Option<String> {
        let pairs = [
            ("rustc", &self.rustc, &here.rustc),
            ("valgrind", &self.valgrind, &here.valgrind),
            ("vectors", &self.vectors, &here.vectors),
        ];
        let (what, theirs, ours) = pairs.into_iter().find(|(_, theirs, ours)| theirs != ours)?;
        Some(format!("benches/instructions.toml was made with {what} {theirs}, this is {ours}"))
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    if is_x86_feature_detected!("avx2") { "avx2" } else { "sse2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    std::env::consts::ARCH
}

impl Baseline {
    /// The file is a small part of TOML: `key = value`, strings in quotes.
    pub(crate) fn read() -> Result<Baseline> {
        let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let pairs = text.lines().filter_map(|line| line.split_once(" = "));
        let pairs: Vec<(&str, &str)> = pairs.map(|(key, value)| (key, value.trim_matches('"'))).collect();
        let word = |key: &str| {
            let found = pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned());
            found.ok_or_else(|| format!("{FILE}: {key} is missing"))
        };
        let toolchain =
            Toolchain { rustc: word("rustc")?, valgrind: word("valgrind")?, vectors: word("vectors")? };
        let counts = pairs.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.parse().ok()?)));
        Ok(Baseline { toolchain, counts: counts.collect() })
    }

    pub(crate) fn write(&self) -> Result<PathBuf> {
        let Toolchain { rustc, valgrind, vectors } = &self.toolchain;
        let mut text = format!(
            "# Resay's user-space instructions a message. cargo xtask test holds them to within {:.0} %.\n\
             # Written by: cargo bench --bench instructions -- --update\n\
             rustc = \"{rustc}\"\nvalgrind = \"{valgrind}\"\nvectors = \"{vectors}\"\n\n[counts]\n",
            TOLERANCE * 100.0
        );
        for (name, count) in &self.counts {
            writeln!(text, "{name} = {count:.1}")?;
        }
        std::fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(FILE.into())
    }

    /// What is too far from the committed counts.
    pub(crate) fn compare(&self, measured: &[(String, f64)]) -> Vec<String> {
        let each = |(name, count): &(String, f64)| {
            let Some((_, committed)) = self.counts.iter().find(|(known, _)| known == name) else {
                return Some(format!("{name}: {count:.1}, and benches/instructions.toml has no count"));
            };
            let change = count / committed - 1.0;
            (change.abs() > TOLERANCE)
                .then(|| format!("{name}: {count:.1}, committed {committed:.1}: {:+.1} %", change * 100.0))
        };
        measured.iter().filter_map(each).collect()
    }
}
