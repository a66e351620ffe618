//! `resay man`: the manual pages, out of the definitions and texts that the help is made of.
//!
//! clap_mangen renders the name, the description and the options. What follows the options in a long help is text of
//! a few fixed forms (see [`crate::help`]), which become sections, lists and examples of a page:
//!
//! ```text
//! Title:                        .SH TITLE
//!   term                        .TP term
//!       what it means             what it means
//!   0  a number's meaning       .TP 0
//!   any other line              as it stands
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::exit::{Exit, Failure};
use crate::{help, output};

/// Print a manual page
///
/// The page is the source that man(1) formats: `resay man serve | man -l -`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  resay man | man -l -                      # of resay itself
  resay man plugin check | man -l -
  resay man --dir /usr/local/share/man/man1 # all of them, as files")]
pub(crate) struct Arguments {
    /// Whose page, for example `serve` or `plugin check`; without it, the page of resay itself
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
    /// Write every page into this directory, which is made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with = "path")]
    dir: Option<PathBuf>,
}

/// Runs the command; `command` is the whole of `resay`.
pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<Exit, Failure> {
    command.build();
    if let Some(directory) = &arguments.dir {
        write_all(&command, directory).map_err(|(path, error)| {
            Failure::new(Exit::Usage, format!("man --dir: {}: {error}", path.display()))
        })?;
        return Ok(Exit::Done);
    }
    let mut found = &command;
    let mut above = Vec::new();
    for name in &arguments.path {
        above.push(found);
        found = subcommands(found).find(|command| command.get_name() == name).ok_or_else(|| {
            let names: Vec<_> = subcommands(found).map(Command::get_name).collect();
            let hint = match (meant(found, name), names.as_slice()) {
                (Some(meant), _) => format!(", did you mean {meant:?}?"),
                (None, []) => format!("; {} has no commands", long_name(found, " ")),
                (None, names) => format!("; {} has {}", long_name(found, " "), names.join(", ")),
            };
            Failure::new(Exit::Usage, format!("man: unknown command {name:?}{hint}"))
        })?;
    }
    output::print(page(found, &above)).map(|()| Exit::Done)
}

/// The command below that was probably meant, as clap would say for the command line itself.
fn meant(command: &Command, name: &str) -> Option<String> {
    let error = command.clone().try_get_matches_from([command.get_name(), name]).err()?;
    match error.get(ContextKind::SuggestedSubcommand)? {
        ContextValue::Strings(names) => names.first().cloned(),
        ContextValue::String(name) => Some(name.clone()),
        _ => None,
    }
}

/// Writes the pages of `command` and of all below it; the error has the path that it is about.
fn write_all(command: &Command, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
    fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    let mut waiting = vec![(command, Vec::new())];
    while let Some((command, above)) = waiting.pop() {
        let file = directory.join(format!("{}.1", long_name(command, "-")));
        fs::write(&file, page(command, &above)).map_err(|error| (file, error))?;
        let mut path = above;
        path.push(command);
        waiting.extend(subcommands(command).map(|below| (below, path.clone())));
    }
    Ok(())
}

/// The page of a command, whose parents are `above`, outermost first.
fn page(command: &Command, above: &[&Command]) -> String {
    let version = resay::VERSION;
    let man = Man::new(command.clone());
    // No date: the same version has the same page, whenever it is made. (Roff would leave an empty argument out.)
    let title = format!(
        ".TH {} 1 \"\" \"Resay {version}\" \"Resay Manual\"\n",
        long_name(command, "-").to_uppercase()
    );
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    synopsis(&mut roff, command, above);
    let synopsis = roff.to_roff();

    let mut roff = Roff::new();
    if subcommands(command).next().is_some() {
        roff.control("SH", ["COMMANDS"]);
        for below in subcommands(command) {
            roff.control("TP", []);
            roff.text([bold(long_name(below, "-")), roman("(1)")]);
            roff.text([roman(below.get_about().map(ToString::to_string).unwrap_or_default())]);
        }
    }
    let commands = roff.to_roff();

    let mut roff = Roff::new();
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        sections(&mut roff, &text.to_string());
    }
    if above.is_empty() {
        sections(&mut roff, help::ENVIRONMENT);
    }
    see_also(&mut roff, command, above);
    let rest = roff.to_roff();

    let rendered = |render: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        let mut text = Vec::new();
        // Writing to a Vec does not fail.
        let _ = render(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let parts = [
        title,
        rendered(&|to| man.render_name_section(to)),
        synopsis,
        rendered(&|to| man.render_description_section(to)),
        commands,
        rendered(&|to| man.render_options_section(to)),
        rest,
    ];
    emphasised(&parts.concat())
}

fn synopsis(roff: &mut Roff, command: &Command, above: &[&Command]) {
    let mut line = Vec::new();
    for parent in above {
        line.extend([bold(parent.get_name()), roman(" ")]);
        for argument in parent.get_positionals().filter(|argument| argument.is_required_set()) {
            line.extend([value(argument), roman(" ")]);
        }
    }
    line.push(bold(command.get_name()));
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(|argument| !argument.is_hide_set()).partition(|a| a.is_positional());
    for option in options {
        let name = match (option.get_short(), option.get_long()) {
            (Some(short), Some(long)) => format!("-{short}|--{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, Some(long)) => format!("--{long}"),
            (None, None) => continue,
        };
        let is_required = option.is_required_set();
        line.push(roman(if is_required { " " } else { " [" }));
        line.push(bold(name));
        if option.get_action().takes_values() {
            line.push(roman(" "));
            line.push(value(option));
        }
        line.push(roman(if is_required { "" } else { "]" }));
        if matches!(option.get_action(), ArgAction::Append | ArgAction::Count) {
            line.push(roman("..."));
        }
    }
    for argument in positional {
        let (before, after) = if argument.is_required_set() { (" ", "") } else { (" [", "]") };
        line.extend([roman(before), value(argument), roman(after)]);
        if matches!(argument.get_action(), ArgAction::Append) {
            line.push(roman("..."));
        }
    }
    if command.is_subcommand_required_set() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    roff.text(line);
}

/// What stands for an argument's value.
fn value(argument: &Arg) -> Inline {
    let names = argument.get_value_names().unwrap_or_default();
    match names {
        [] => italic(argument.get_id().as_str().to_uppercase()),
        names => italic(names.join(" ")),
    }
}

/// Renders what follows the options in a long help.
fn sections(roff: &mut Roff, text: &str) {
    for block in text.split("\n\n") {
        let lines: Vec<_> = block.lines().collect();
        let (heading, body) =
            lines.split_at(lines.iter().position(|line| line.starts_with(' ')).unwrap_or(lines.len()));
        let heading = heading.join(" ");
        // "Chains:", "Exit status: 0 done, …", "Options of a listener, in the query of its URL …:"
        let title = heading.split_once([':', ',']).filter(|(title, _)| !title.contains('`'));
        match title {
            Some((title, rest)) => {
                let title = if title == "Try it" { "Examples" } else { title };
                roff.control("SH", [title.to_uppercase().as_str()]);
                if !rest.trim().is_empty() {
                    roff.text([roman(capitalised(rest.trim()))]);
                }
            }
            None => {
                roff.control("PP", []);
                roff.text([roman(heading)]);
            }
        }
        list(roff, body);
    }
}

/// Renders the indented lines below a title.
fn list(roff: &mut Roff, lines: &[&str]) {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let numbered = |line: &&str| {
        line.trim_start().split_once("  ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
    };
    if lines.iter().any(numbered) {
        for line in lines {
            match line.trim_start().split_once("  ").filter(|_| numbered(line)) {
                Some((number, meaning)) => {
                    roff.control("TP", []);
                    roff.text([bold(number)]);
                    roff.text([roman(meaning)]);
                }
                None => {
                    roff.text([roman(line.trim())]);
                }
            }
        }
        return;
    }
    if !lines.iter().any(|line| indent(line) >= MEANING_INDENT) {
        if !lines.is_empty() {
            roff.control("PP", []);
            roff.control("nf", []);
            for line in lines {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
        }
        return;
    }
    for entry in lines.chunk_by(|a, b| indent(b) >= MEANING_INDENT || indent(a) < MEANING_INDENT) {
        let terms = entry.iter().take_while(|line| indent(line) < MEANING_INDENT).count();
        let (terms, meaning) = entry.split_at(terms);
        if meaning.is_empty() {
            roff.control("PP", []);
            for line in terms {
                roff.text([roman(line.trim())]);
            }
            continue;
        }
        for (index, term) in terms.iter().enumerate() {
            roff.control(if index == 0 { "TP" } else { "TQ" }, []);
            roff.text([bold(term.trim())]);
        }
        for line in meaning {
            // Which listeners an option is for stands on a line of its own.
            if line.trim().starts_with("for ") && Some(line) == meaning.last() {
                roff.control("br", []);
            }
            roff.text([roman(line.trim())]);
        }
    }
}

/// Lines that say what the line above means begin here or further right.
const MEANING_INDENT: usize = 6;

fn see_also(roff: &mut Roff, command: &Command, above: &[&Command]) {
    let mut names: Vec<_> = above.iter().map(|command| long_name(command, "-")).collect();
    if let Some(parent) = above.last() {
        let others = subcommands(parent).filter(|other| other.get_name() != command.get_name());
        names.extend(others.map(|other| long_name(other, "-")));
    }
    names.extend(subcommands(command).map(|below| long_name(below, "-")));
    if names.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        line.push(roman(if index == 0 { "" } else { ", " }));
        line.extend([bold(name), roman("(1)")]);
    }
    roff.text(line);
}

/// What stands between backticks in help texts, in bold; any other backtick as such, where roff would make a
/// quotation mark of it.
fn emphasised(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let parts: Vec<_> = line.split('`').collect();
        for (index, part) in parts.iter().enumerate() {
            let (before, after) = match index {
                odd if odd % 2 == 0 => ("", ""),
                last if last + 1 == parts.len() => (r"\(ga", ""),
                _ => (r"\fB", r"\fR"),
            };
            text.extend([before, part, after]);
        }
        text.push('\n');
    }
    text
}

/// The command's name with those of its parents.
fn long_name(command: &Command, separator: &str) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    name.split(' ').collect::<Vec<_>>().join(separator)
}

/// The commands below; the help command is none with a page of its own.
fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
