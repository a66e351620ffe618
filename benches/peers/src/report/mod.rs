//! What was found: figures, the page, its pictures.

mod figures;
mod machine;
mod page;
mod plots;
pub(crate) mod svg;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::results::Results;

/// The comparison at a glance, as text: Markdown, which is also readable as it is.
pub(crate) fn summary(results: &Results) -> String {
    page::glance(results)
}

/// Writes `performance.md` and `plots/` to a directory. What is written by hand in an older page is kept.
pub(crate) fn write(results: &Results, directory: &Path) -> io::Result<PathBuf> {
    let page_path = directory.join("performance.md");
    let plots = directory.join("plots");
    fs::create_dir_all(&plots)?;
    let mut names = Vec::new();
    for (name, svg) in plots::all(results) {
        fs::write(plots.join(name), svg)?;
        names.push(name);
    }
    let before = match fs::read_to_string(&page_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result?,
    };
    fs::write(&page_path, page::page(results, &names, page::by_hand(&before)))?;
    Ok(page_path)
}
