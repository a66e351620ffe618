//! `resay plugin info`: describes a plugin file.

use crate::file;
use crate::info::Info;
use crate::options::{CheckOptions, split_id};
use crate::report::{Finding, Outcome};
use crate::runner;
use std::fmt;
use std::path::Path;

/// Why a library cannot be described.
#[derive(Debug, Clone)]
pub struct InfoError(pub Finding);

impl fmt::Display for InfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.outcome {
            Outcome::Fail(reason) | Outcome::Skip(reason) => f.write_str(reason),
            Outcome::Pass => f.write_str("the library describes no transform"),
        }
    }
}

impl std::error::Error for InfoError {}

/// Describes a plugin file, `libflip.so` or `libflip.so#id`; a child process reads it.
pub fn info(file: &Path, options: &CheckOptions) -> Result<Info, InfoError> {
    let (path, id) = split_id(file);
    let id = options.transform.clone().or(id);
    if let Some(finding) =
        file::check(&path).into_iter().find(|finding| matches!(finding.outcome, Outcome::Fail(_)))
        && finding.probe == "file"
    {
        return Err(InfoError(finding));
    }
    let mut asked = runner::describe(&path, options);
    match Info::from_data(&path, &asked.data) {
        Some(mut info) => {
            if let Some(id) = id {
                info.transforms.retain(|transform| transform.id == id);
                if info.transforms.is_empty() {
                    asked.finding.outcome = Outcome::Fail(format!("there is no transform '{id}'"));
                    return Err(InfoError(asked.finding));
                }
            }
            Ok(info)
        }
        None => Err(InfoError(asked.finding)),
    }
}
