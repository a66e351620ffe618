//! `resay plugin`: what transforms there are.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use resay::{Error, Origin, TransformInfo};

use crate::exit::{Exit, Failure, complain};

/// Look at plugins
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArguments),
}

/// List the transforms that a chain can name
///
/// Files in the plugin directories that cannot be used are reported on standard error. The exit status is 6
/// if one of them is in a directory that was named with --plugin-dir.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resay plugin list
  resay plugin list -v                        # with the options of each
  resay plugin list --plugin-dir ./plugins")]
struct ListArguments {
    /// Look for plugins here, before RESAY_PLUGIN_PATH; may be given several times
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_directories: Vec<PathBuf>,
    /// Show the options of each transform
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::List(arguments) => list(arguments),
    }
}

fn list(arguments: &ListArguments) -> Result<Exit, Failure> {
    check_directories(&arguments.plugin_directories)?;
    let (transforms, errors) = resay::transforms(&arguments.plugin_directories);
    // Whoever reads may stop reading (`| head`): that is no failure.
    let _ = io::stdout().write_all(table(&transforms, arguments.verbose).as_bytes());
    let mut exit = Exit::Done;
    for error in &errors {
        complain(error);
        if let Error::Plugin { path, .. } = error
            && arguments.plugin_directories.iter().any(|directory| path.starts_with(directory))
        {
            exit = Exit::Plugin;
        }
    }
    Ok(exit)
}

/// A directory that was named and cannot be read is a mistake in the naming.
pub(crate) fn check_directories(directories: &[PathBuf]) -> Result<(), Failure> {
    for directory in directories {
        check_directory(directory).map_err(|error| {
            Failure::new(Exit::Usage, format!("--plugin-dir {}: {error}", directory.display()))
        })?;
    }
    Ok(())
}

fn check_directory(directory: &Path) -> io::Result<()> {
    directory.read_dir().map(drop)
}

fn table(transforms: &[TransformInfo], verbose: bool) -> String {
    let mut rows = vec![["ID".to_owned(), "VERSION".to_owned(), "ORIGIN".to_owned(), "SUMMARY".to_owned()]];
    rows.extend(transforms.iter().map(|transform| {
        [
            transform.id.clone(),
            transform.version.clone(),
            origin_text(&transform.origin),
            transform.summary.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for (index, [id, version, origin, summary]) in rows.iter().enumerate() {
        let [a, b, c] = widths;
        text += format!("{id:a$}  {version:b$}  {origin:c$}  {summary}").trim_end();
        text += "\n";
        let Some(transform) = index.checked_sub(1).and_then(|index| transforms.get(index)) else { continue };
        if verbose {
            text += &options_text(transform);
        }
    }
    text
}

fn options_text(transform: &TransformInfo) -> String {
    if transform.options.is_empty() {
        return "    no options\n".to_owned();
    }
    let lines = transform.options.iter().map(|option| {
        let fallback = match option.fallback {
            "" => String::new(),
            fallback => format!(" [default: {fallback}]"),
        };
        format!("    {}=<{}>  {}{fallback}\n", option.key, option.kind, option.help)
    });
    lines.collect()
}

fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Registered => "registered".to_owned(),
        Origin::Bundled => "bundled".to_owned(),
        Origin::File(path) => path.display().to_string(),
    }
}
