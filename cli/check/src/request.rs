//! What the parent asks a child process, and what the child answers: both go through the shared file.

use crate::promise::Promise;
use crate::report::Outcome;
use crate::shared::{Packer, Unpacker};
use crate::words::one_line;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the shared file. A process in whose environment it is set is a child.
pub(crate) const VARIABLE: &str = "RESAY_PLUGIN_CHECK_CHILD";

/// The file that takes the child's standard output and error.
pub(crate) fn output_path(path: &Path) -> PathBuf {
    let mut output = path.as_os_str().to_owned();
    output.push(".output");
    output.into()
}

/// One probe for a child process.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) file: PathBuf,
    pub(crate) probe: String,
    /// Empty: the probe is about the library.
    pub(crate) transform: String,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) seed: u64,
    pub(crate) budget: Duration,
    pub(crate) limit: Duration,
}

/// The result of a probe.
#[derive(Debug, Clone)]
pub(crate) struct ProbeResult {
    pub(crate) promise: Promise,
    pub(crate) outcome: Outcome,
    pub(crate) details: Vec<(String, String)>,
    /// Descriptions and figures that were asked for.
    pub(crate) data: Vec<String>,
}

impl Request {
    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        packer.bytes(self.file.as_os_str().as_bytes());
        packer.text(&self.probe);
        packer.text(&self.transform);
        packer.texts(self.options.iter().map(|(key, _)| key.as_str()));
        packer.texts(self.options.iter().map(|(_, value)| value.as_str()));
        packer.number(self.seed);
        packer.number(self.budget.as_micros() as u64);
        packer.number(self.limit.as_micros() as u64);
        packer.0
    }

    pub(crate) fn unpack(bytes: &[u8]) -> Option<Request> {
        let mut fields = Unpacker(bytes);
        Some(Request {
            file: OsString::from_vec(fields.bytes()?.to_vec()).into(),
            probe: fields.text()?,
            transform: fields.text()?,
            options: fields.texts()?.into_iter().zip(fields.texts()?).collect(),
            seed: fields.number()?,
            budget: Duration::from_micros(fields.number()?),
            limit: Duration::from_micros(fields.number()?),
        })
    }
}

impl ProbeResult {
    pub(crate) fn new(promise: Promise, outcome: Outcome) -> ProbeResult {
        ProbeResult { promise, outcome, details: Vec::new(), data: Vec::new() }
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        let (kind, reason) = match &self.outcome {
            Outcome::Pass => (0, ""),
            Outcome::Fail(reason) => (1, reason.as_str()),
            Outcome::Skip(reason) => (2, reason.as_str()),
        };
        packer.text(self.promise.code());
        packer.number(kind);
        packer.text(reason);
        packer.texts(self.details.iter().map(|(name, _)| name.as_str()));
        packer.texts(self.details.iter().map(|(_, value)| value.as_str()));
        packer.texts(self.data.iter().map(String::as_str));
        packer.0
    }

    pub(crate) fn unpack(bytes: &[u8]) -> Option<ProbeResult> {
        let mut fields = Unpacker(bytes);
        let promise = Promise::from_code(&fields.text()?)?;
        let (kind, reason) = (fields.number()?, one_line(&fields.text()?));
        let outcome = match kind {
            0 => Outcome::Pass,
            1 => Outcome::Fail(reason),
            _ => Outcome::Skip(reason),
        };
        let values = |texts: Vec<String>| texts.into_iter().map(|text| one_line(&text));
        let details = fields.texts()?.into_iter().zip(values(fields.texts()?)).collect();
        Some(ProbeResult { promise, outcome, details, data: fields.texts()? })
    }
}
