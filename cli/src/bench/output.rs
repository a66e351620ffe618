//! Where the results go: text on standard output, and files that were asked for.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::replacement::Replacement;
use crate::exit::{Exit, Failure};
use crate::output;

/// What is written beside, or instead of, the text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct Outputs {
    /// Write the results as JSON; `-` is standard output, instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results as CSV, a line of names and a line a run; `-` is standard output, instead of the text
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the results as one HTML page with its charts, which needs nothing from elsewhere; `-` too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Files that can be written: this is known before anything is measured.
#[derive(Debug)]
pub(crate) struct Open {
    json: Option<Target>,
    csv: Option<Target>,
    html: Option<Target>,
}

#[derive(Debug)]
enum Target {
    Standard,
    File(PathBuf),
}

impl Outputs {
    pub(crate) fn open(&self) -> Result<Open, Failure> {
        let is_standard = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        if is_standard(&self.json) && is_standard(&self.csv) {
            return Err(Failure::new(
                Exit::Usage,
                "--json and --csv: only one of them can be standard output",
            ));
        }
        let open = |path: &Option<PathBuf>| path.as_deref().map(Target::open).transpose();
        Ok(Open { json: open(&self.json)?, csv: open(&self.csv)?, html: open(&self.html)? })
    }
}

impl Target {
    fn open(path: &Path) -> Result<Target, Failure> {
        if path == Path::new("-") {
            return Ok(Target::Standard);
        }
        // Only looked whether it can be: an interrupted measurement leaves nothing behind.
        Replacement::open(path)
            .map(|_| Target::File(path.to_owned()))
            .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
    }

    fn write(self, text: &str) -> Result<(), Failure> {
        match self {
            Target::Standard => output::print(text),
            Target::File(path) => Replacement::open(&path)
                .and_then(|file| file.write(text))
                .map_err(|error| Failure::new(Exit::Broken, format!("{}: {error}", path.display()))),
        }
    }
}

impl Open {
    /// Writes what was asked for, and the text unless standard output has something else.
    pub(crate) fn write(
        self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
        csv: impl FnOnce() -> String,
        html: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let is_taken = [&self.json, &self.csv, &self.html]
            .into_iter()
            .any(|target| matches!(target, Some(Target::Standard)));
        if let Some(target) = self.json {
            let json = serde_json::to_string_pretty(document)
                .map_err(|error| Failure::new(Exit::Broken, format!("make JSON: {error}")))?;
            target.write(&(json + "\n"))?;
        }
        if let Some(target) = self.csv {
            target.write(&csv())?;
        }
        if let Some(target) = self.html {
            target.write(&html())?;
        }
        if !is_taken {
            Target::Standard.write(&text())?;
        }
        Ok(())
    }
}
