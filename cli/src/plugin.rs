//! `resay plugin`: lists transforms, describes and checks them, and starts new ones.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use resay::options::nearest;
use resay::{Error, TransformInfo, TransformOrigin};
use resay_check::{CheckOptions, Lang};

use crate::exit::{Exit, Failure, complain};
use crate::output;

/// Look at plugins
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArguments),
    Info(InfoArguments),
    Check(CheckArguments),
    New(NewArguments),
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

/// Describe a transform, or all transforms of a plugin file: their promises and options
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resay plugin info uppercase                 # as a chain finds it
  resay plugin info mine --plugin-dir ./plugins
  resay plugin info ./libmine.so
  resay plugin info './libmine.so#second'")]
struct InfoArguments {
    #[command(flatten)]
    target: TargetArguments,
}

/// Check a plugin: whether it keeps the promises of the ABI, and what a call costs
///
/// Each probe runs in a process of its own with a time limit, so a plugin that crashes or hangs is a finding and does
/// not end the check. The exit status is 0 if no probe fails, else 6. Hints do not change it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resay plugin check ./libmine.so
  resay plugin check mine --plugin-dir ./plugins
  resay plugin check './libmine.so#second' --option mode=decode --json
  resay plugin check ./libmine.so --seed 42     # the same run again")]
struct CheckArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// An option for the transform, as in a chain; may be given several times
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// The seed of random input; the report names the one it used
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Skip the measurements
    #[arg(long)]
    no_cost: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Which transforms a command is about.
#[derive(Debug, Args)]
struct TargetArguments {
    /// A plugin file, ./libmine.so, or one transform of it, './libmine.so#id'; or a transform's name, as in a chain
    // Shells would complete files alone.
    #[arg(value_name = "FILE|NAME", value_hint = clap::ValueHint::Unknown)]
    target: PathBuf,
    /// Look for the name here, before RESAY_PLUGIN_PATH; may be given several times
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_directories: Vec<PathBuf>,
}

/// Start a plugin: a directory with a transform that builds and passes the check
///
/// The project is complete: it contains the headers for C and C++, or for Rust the SDK's sources, and builds without a
/// network.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resay plugin new shout --lang c && make -C shout
  resay plugin new shout --lang c++ && make -C shout
  resay plugin new shout --lang rust && cargo build --release --manifest-path shout/Cargo.toml")]
struct NewArguments {
    /// The transform's name: lower case letters, digits, - and _; a letter first
    name: String,
    /// The language: c, c++ or rust
    #[arg(long)]
    lang: Lang,
    /// Where to make the directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::List(arguments) => list(arguments),
        Command::Info(arguments) => info(arguments),
        Command::Check(arguments) => check(arguments),
        Command::New(arguments) => new(arguments),
    }
}

/// What a command is about, found.
enum Target {
    /// A file, and a transform of it; without one, all of them, or as the file's name says.
    File { path: PathBuf, id: Option<String> },
    /// Linked into this program.
    Bundled(TransformInfo),
}

/// A path with a slash is a file. Otherwise it is a name, as in a chain; a file is the last resort.
fn find(arguments: &TargetArguments) -> Result<Target, Failure> {
    check_directories(&arguments.plugin_directories)?;
    let path = &arguments.target;
    let file = Target::File { path: path.clone(), id: None };
    let Some(name) = path.to_str().filter(|name| !name.contains('/')) else { return Ok(file) };
    let (transforms, errors) = resay::transforms(&arguments.plugin_directories);
    if let Some(found) = transforms.iter().find(|transform| transform.id == name).cloned() {
        return Ok(match found.origin {
            TransformOrigin::File(path) => Target::File { path, id: Some(found.id) },
            TransformOrigin::Bundled | TransformOrigin::Registered => Target::Bundled(found),
        });
    }
    if Path::new(name.split('#').next().unwrap_or(name)).is_file() {
        return Ok(file);
    }
    errors.iter().for_each(complain);
    let hint = match nearest(name, transforms.iter().map(|transform| transform.id.as_str())) {
        Some(meant) => format!(", did you mean {meant:?}?"),
        None => "; 'resay plugin list' lists all transforms, and a file is named with a slash: ./libmine.so"
            .to_owned(),
    };
    let text = format!("there is no transform {name:?} and no such file{hint}");
    Err(Failure::new(Exit::Plugin, text))
}

fn info(arguments: &InfoArguments) -> Result<Exit, Failure> {
    match find(&arguments.target)? {
        Target::Bundled(transform) => output::print(line(bundled_text(&transform)))?,
        Target::File { path, id } => {
            let mut options = CheckOptions::default();
            options.transform = id;
            let info = resay_check::info(&path, &options)
                .map_err(|error| Failure::new(Exit::Plugin, format!("{}: {error}", path.display())))?;
            output::print(line(info.to_string()))?;
        }
    }
    Ok(Exit::Done)
}

fn bundled_text(transform: &TransformInfo) -> String {
    let TransformInfo { id, version, summary, origin, caps, needs, threading, .. } = transform;
    let (origin, options) = (origin_text(origin), options_text(transform));
    let contract: String = resay_check::contract_rows(*caps, *needs, *threading)
        .into_iter()
        .map(|(name, value)| format!("  {name:<11} {value}\n"))
        .collect();
    format!("{id} {version}\n  {:<11} {summary}\n  {:<11} {origin}\n{contract}{options}", "summary", "origin")
}

fn check(arguments: &CheckArguments) -> Result<Exit, Failure> {
    let mut options = CheckOptions::default();
    options.options = pairs(&arguments.options)?;
    options.cost = !arguments.no_cost;
    options.seed = arguments.seed;
    let path = match find(&arguments.target)? {
        Target::File { path, id } => {
            options.transform = id;
            path
        }
        Target::Bundled(TransformInfo { id, .. }) => {
            let text = format!(
                "{id} is linked into this program; only a plugin file can be checked, in processes of its own: name \
                 it with a slash, as in PREFIX/lib/resay/plugins/lib{id}.so"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
    };
    let report = resay_check::check(&path, &options);
    let text = if arguments.json { output::json(&report)? } else { report.to_string() };
    output::print(line(text))?;
    Ok(if report.passed() { Exit::Done } else { Exit::Plugin })
}

fn new(arguments: &NewArguments) -> Result<Exit, Failure> {
    let made = resay_check::new(&arguments.name, arguments.lang, &arguments.dir)
        .map_err(|error| Failure::new(Exit::Usage, format!("new {}: {error}", arguments.name)))?;
    for file in made {
        output::print(line(file.display().to_string()))?;
    }
    Ok(Exit::Done)
}

/// `KEY=VALUE` in two.
fn pairs(options: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Failure::new(Exit::Usage, format!("--option {text}: write KEY=VALUE"))),
    };
    options.iter().map(pair).collect()
}

/// With a line end, if there is none.
fn line(text: String) -> String {
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn list(arguments: &ListArguments) -> Result<Exit, Failure> {
    check_directories(&arguments.plugin_directories)?;
    let (transforms, errors) = resay::transforms(&arguments.plugin_directories);
    output::print(table(&transforms, arguments.verbose))?;
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

/// A named directory that cannot be read is a usage error.
pub(crate) fn check_directories(directories: &[PathBuf]) -> Result<(), Failure> {
    for directory in directories {
        check_directory(directory).map_err(|error| {
            Failure::new(Exit::Usage, format!("--plugin-dir {}: {error}", directory.display()))
        })?;
    }
    Ok(())
}

pub(crate) fn check_directory(directory: &Path) -> io::Result<()> {
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
            None => " [must be given]".to_owned(),
            Some("") => String::new(),
            Some(fallback) => format!(" [default: {fallback}]"),
        };
        let range = match (option.min, option.max) {
            ("", "") => String::new(),
            (min, "") => format!("at least {min}"),
            ("", max) => format!("at most {max}"),
            (min, max) => format!("from {min} to {max}"),
        };
        let range: Vec<_> = [option.unit, &range].into_iter().filter(|text| !text.is_empty()).collect();
        let range = if range.is_empty() { String::new() } else { format!(" ({})", range.join(", ")) };
        format!("    {}=<{}>  {}{range}{fallback}\n", option.key, option.kind, option.help)
    });
    lines.collect()
}

fn origin_text(origin: &TransformOrigin) -> String {
    match origin {
        TransformOrigin::Registered => "registered".to_owned(),
        TransformOrigin::Bundled => "bundled".to_owned(),
        TransformOrigin::File(path) => path.display().to_string(),
    }
}
