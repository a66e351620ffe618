//! Where the results go: text on standard output, and files that were asked for.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};

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
    File(PathBuf, File),
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
        File::create(path)
            .map(|file| Target::File(path.to_owned(), file))
            .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
    }

    fn write(self, text: &str) -> Result<(), Failure> {
        let (name, result) = match self {
            Target::Standard => ("standard output".to_owned(), print(text)),
            Target::File(path, mut file) => (path.display().to_string(), file.write_all(text.as_bytes())),
        };
        result.map_err(|error| Failure::new(Exit::Broken, format!("{name}: {error}")))
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // Who has seen enough has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
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
