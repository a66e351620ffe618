//! What was found: data, lines for people, JSON for programs.

use crate::cost::Cost;
use crate::promise::Promise;
use crate::words::bytes_text;
use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use std::fmt;
use std::path::PathBuf;

/// What the probes of one file found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// Repeats the run.
    pub seed: u64,
    /// One for each probe, in order: first of the library, then of each transform.
    pub findings: Vec<Finding>,
    /// What a call costs.
    pub costs: Vec<Cost>,
    /// What would be better, though nothing failed.
    pub hints: Vec<Hint>,
}

/// A remark about a transform that passes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Hint {
    /// The transform's id.
    pub transform: String,
    /// What could be better, and how.
    pub text: String,
}

/// What one probe found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// The transform's id; empty where the probe is of the library.
    pub transform: String,
    /// The probe's name.
    pub probe: &'static str,
    /// What the probe is about; with a failure, what was broken.
    pub promise: Promise,
    /// How it went.
    pub outcome: Outcome,
    /// What else is known: names and values, such as `at` and `during`.
    pub details: Vec<(String, String)>,
}

/// How a probe went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The promise is kept.
    Pass,
    /// It is violated; how.
    Fail(String),
    /// Nothing was tested; why.
    Skip(String),
}

impl Report {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The findings that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Fail(_)))
    }

    /// The exit status of the command: 0 if all passed, else 6.
    pub fn exit_status(&self) -> u8 {
        if self.passed() { 0 } else { 6 }
    }

    fn sums(&self) -> [usize; 3] {
        let mut sums = [0; 3];
        for finding in &self.findings {
            sums[match finding.outcome {
                Outcome::Pass => 0,
                Outcome::Fail(_) => 1,
                Outcome::Skip(_) => 2,
            }] += 1;
        }
        sums
    }
}

/// Sums before findings, for readers who want no more.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [passed, failed, skipped] = self.sums();
        let mut object = serializer.serialize_struct("Report", 8)?;
        object.serialize_field("file", &self.file.display().to_string())?;
        // A string: numbers of JSON readers are seldom 64 bits wide.
        object.serialize_field("seed", &self.seed.to_string())?;
        object.serialize_field("passed", &passed)?;
        object.serialize_field("failed", &failed)?;
        object.serialize_field("skipped", &skipped)?;
        object.serialize_field("findings", &self.findings)?;
        object.serialize_field("costs", &self.costs)?;
        object.serialize_field("hints", &self.hints)?;
        object.end()
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (outcome, reason) = match &self.outcome {
            Outcome::Pass => ("pass", ""),
            Outcome::Fail(reason) => ("fail", reason.as_str()),
            Outcome::Skip(reason) => ("skip", reason.as_str()),
        };
        let mut object = serializer.serialize_struct("Finding", 7)?;
        object.serialize_field("transform", &self.transform)?;
        object.serialize_field("probe", self.probe)?;
        object.serialize_field("promise", self.promise.code())?;
        object.serialize_field("text", self.promise.text())?;
        object.serialize_field("outcome", outcome)?;
        object.serialize_field("reason", reason)?;
        object.serialize_field("details", &Details(&self.details))?;
        object.end()
    }
}

/// An object in the order of its names.
struct Details<'a>(&'a [(String, String)]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.file.display())?;
        let mut transform = "";
        for finding in &self.findings {
            if finding.transform != transform {
                self.costs_and_hints_of(transform, f)?;
                transform = &finding.transform;
                writeln!(f, "{transform}")?;
            }
            finding.fmt(f)?;
        }
        self.costs_and_hints_of(transform, f)?;
        let [passed, failed, skipped] = self.sums();
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped; --seed {} repeats this", self.seed)
    }
}

impl Report {
    fn costs_and_hints_of(&self, transform: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cost in self.costs.iter().filter(|cost| cost.transform == transform) {
            let size = bytes_text(cost.bytes);
            writeln!(
                f,
                "  cost  {size:<14} {:>12.1} ns a call {:>9.3} GB/s",
                cost.nanoseconds,
                cost.gigabytes_per_second()
            )?;
        }
        for hint in self.hints.iter().filter(|hint| hint.transform == transform) {
            writeln!(f, "  hint  {}", hint.text)?;
        }
        Ok(())
    }
}

/// One line, and one for each detail of a failure.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probe = self.probe;
        match &self.outcome {
            Outcome::Pass => writeln!(f, "  pass  {probe:<14} {}", self.promise.text()),
            Outcome::Skip(reason) => writeln!(f, "  skip  {probe:<14} {reason}"),
            Outcome::Fail(reason) => {
                let code = self.promise.code();
                writeln!(f, "  FAIL  {probe:<14} {code}: {}", self.promise.text())?;
                writeln!(f, "        {:<14} {reason}", "")?;
                for (name, value) in &self.details {
                    writeln!(f, "        {:<14} {name}: {value}", "")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let finding = |probe, outcome| Finding {
            transform: "flip".to_owned(),
            probe,
            promise: Promise::Bytewise,
            outcome,
            details: vec![("at".to_owned(), "byte \"3\"\n".to_owned())],
        };
        Report {
            file: PathBuf::from("libflip.so"),
            seed: u64::MAX,
            findings: vec![
                finding("call", Outcome::Pass),
                finding("bytewise", Outcome::Fail("0x41".into())),
                finding("state", Outcome::Skip("not offered".into())),
            ],
            costs: vec![Cost { transform: "flip".to_owned(), bytes: 65_536, nanoseconds: 1000.0 }],
            hints: vec![Hint { transform: "flip".to_owned(), text: "be faster".to_owned() }],
        }
    }

    #[test]
    fn lines_are_aligned_and_summed_up() {
        assert_eq!(
            report().to_string(),
            "libflip.so\n\
             flip\n  \
             pass  call           RESAY_CAP_BYTEWISE: each output byte depends on the same input byte alone, and the length stays\n  \
             FAIL  bytewise       bytewise: RESAY_CAP_BYTEWISE: each output byte depends on the same input byte alone, and the length stays\n                       \
             0x41\n                       \
             at: byte \"3\"\n\n  \
             skip  state          not offered\n  \
             cost  64 KiB               1000.0 ns a call    65.536 GB/s\n  \
             hint  be faster\n\
             1 passed, 1 failed, 1 skipped; --seed 18446744073709551615 repeats this\n"
        );
        assert_eq!(report().exit_status(), 6);
    }

    #[test]
    fn json_is_escaped() {
        let json = serde_json::to_string(&report()).unwrap();
        assert!(
            json.contains(r#""seed":"18446744073709551615","passed":1,"failed":1,"skipped":1"#),
            "{json}"
        );
        assert!(json.ends_with(r#""hints":[{"transform":"flip","text":"be faster"}]}"#), "{json}");
        assert!(json.contains(r#""details":{"at":"byte \"3\"\n"}"#), "{json}");
    }
}
