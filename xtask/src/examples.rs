//! The examples in Rust, C and Python: compiled, run, and held to ending well by themselves. Those in Rust are also held
//! to printing what their documentation shows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;
use crate::report::{Outcome, Report, capture, run_example};

pub(crate) const C_FLAGS: [&str; 5] = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const CPP_FLAGS: [&str; 10] = [
    "-std=c++11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wold-style-cast",
    "-Wextra-semi",
    "-Werror",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
];
/// Examples that begin so are plugins; all others are hosts.
const PLUGIN_PREFIX: &str = "plugin_";
/// Examples in Python that begin so take arguments.
const TOUR_PREFIX: &str = "tour_";

/// What an example's documentation shows instead of a port, which is another one each time.
const ADDRESS: &str = "127.0.0.1:";
const PORT: &str = "PORT";

pub(crate) fn rust(place: &Place, report: &mut Report) {
    for source in files(&place.root.join("examples"), "rs") {
        report.step(&format!("example {}", shown(place, &source)), || {
            prints_what_it_shows(place, &source).into()
        });
    }
}

fn prints_what_it_shows(place: &Place, source: &Path) -> Result<(), String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let expected = shown_output(&text).ok_or("its documentation has no ```text block with its output")?;
    let mut command = Command::new(place.built.join("examples").join(name_of(source)));
    command.env_remove("RESAY_PLUGIN_PATH").current_dir(&place.root);
    let printed = without_ports(&capture(command)?);
    if printed == expected { Ok(()) } else { Err(format!("it prints\n{printed}\nand not\n{expected}")) }
}

/// The `text` block of a program's documentation, which are its lines that begin with `//!`.
fn shown_output(source: &str) -> Option<String> {
    let documentation = source.lines().map_while(|line| line.strip_prefix("//!"));
    let mut block = documentation.skip_while(|line| line.trim() != "```text").skip(1).peekable();
    block.peek()?;
    let lines = block.take_while(|line| line.trim() != "```");
    Some(lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect())
}

fn without_ports(printed: &str) -> String {
    let mut parts = printed.split(ADDRESS);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(ADDRESS);
        text.push_str(PORT);
        text.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    text
}

/// Plugins first: hosts find them by the name of the transform, over `RESAY_PLUGIN_PATH`.
pub(crate) fn c(place: &Place, report: &mut Report) {
    let sources = files(&place.root.join("examples/c"), "c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    if sources.is_empty() || !exists(&compiler) {
        let reason = if sources.is_empty() { "there are none".to_owned() } else { missing(&compiler) };
        report.step("examples in C", || Outcome::Skipped(reason));
        return;
    }
    let scratch = match Scratch::new(place) {
        Ok(scratch) => scratch,
        Err(reason) => {
            report.step("examples in C", || Outcome::Failed(reason));
            return;
        }
    };
    let (plugins, hosts): (Vec<_>, Vec<_>) =
        sources.into_iter().partition(|source| name_of(source).starts_with(PLUGIN_PREFIX));
    for source in plugins {
        report.step(&format!("example {}", shown(place, &source)), || {
            let name = name_of(&source);
            let library = scratch.plugins.join(format!("lib{}.so", name.trim_start_matches(PLUGIN_PREFIX)));
            let mut compile = compile(place, &compiler, &source, &library);
            compile.args(["-shared", "-fPIC"]);
            run_example(compile)
        });
    }
    plugins_in_cpp(place, &scratch, report);
    for source in hosts {
        report.step(&format!("example {}", shown(place, &source)), || {
            if !place.root.join("include/resay.h").is_file() {
                return Outcome::Skipped("there is no include/resay.h".to_owned());
            }
            let program = scratch.programs.join(name_of(&source));
            let mut compile = compile(place, &compiler, &source, &program);
            compile.arg("-L").arg(&place.built).args(["-lresay", "-pthread"]);
            compile.arg(format!("-Wl,-rpath,{}", scratch.libraries.display()));
            if let Some(foreign) = Foreign::of(&source) {
                if let Err(reason) = foreign.ensure(&compiler) {
                    return Outcome::Skipped(reason);
                }
                compile.arg(foreign.link);
            }
            match run_example(compile) {
                Outcome::Ok => run_example(scratch.environment(Command::new(program), place)),
                failed => failed,
            }
        });
        report.step(&format!("valgrind {}", shown(place, &source)), || {
            let program = scratch.programs.join(name_of(&source));
            if !exists("valgrind") {
                return Outcome::Skipped(missing("valgrind"));
            }
            if !program.is_file() {
                return Outcome::Skipped("there is no program".to_owned());
            }
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full", "--fair-sched=yes"]);
            valgrind.arg("--errors-for-leak-kinds=definite,indirect,possible").arg(program);
            run_example(scratch.environment(valgrind, place))
        });
    }
}

/// Plugins in C++, for the oldest standard. The program there is one of the tours, in `languages`.
fn plugins_in_cpp(place: &Place, scratch: &Scratch, report: &mut Report) {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let sources = files(&place.root.join("examples/cpp"), "cpp");
    for source in sources.into_iter().filter(|source| name_of(source).starts_with(PLUGIN_PREFIX)) {
        report.step(&format!("example {}", shown(place, &source)), || {
            if !exists(&compiler) {
                return Outcome::Skipped(missing(&compiler));
            }
            let name = name_of(&source);
            let library = scratch.plugins.join(format!("lib{}.so", name.trim_start_matches(PLUGIN_PREFIX)));
            let mut compile = Command::new(&compiler);
            compile
                .args(CPP_FLAGS)
                .arg("-I")
                .arg(place.root.join("include"))
                .arg(&source)
                .arg("-o")
                .arg(library);
            run_example(compile)
        });
    }
}

/// A library of other people's that an example shows Resay with.
struct Foreign {
    header: &'static str,
    link: &'static str,
    /// Of Debian and those like it.
    package: &'static str,
}

const FOREIGN: [Foreign; 1] = [Foreign { header: "uv.h", link: "-luv", package: "libuv1-dev" }];

impl Foreign {
    fn of(source: &Path) -> Option<&'static Foreign> {
        let text = fs::read_to_string(source).ok()?;
        FOREIGN.iter().find(|foreign| text.contains(&format!("#include <{}>", foreign.header)))
    }

    /// Sees to it that the library is there: it is installed where that is this user's to do.
    fn ensure(&self, compiler: &str) -> Result<(), String> {
        let is_there = || {
            let script = format!("echo '#include <{}>' | {compiler} -E -x c - >/dev/null 2>&1", self.header);
            Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
        };
        if is_there() {
            return Ok(());
        }
        let user = Command::new("id").arg("-u").output();
        let is_root = user.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
        if !is_root || !exists("apt-get") {
            return Err(format!("{} is not installed, and not ours to install", self.package));
        }
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "-qq", "--no-install-recommends", self.package]);
        match run_example({
            install.env("DEBIAN_FRONTEND", "noninteractive");
            install
        }) {
            Outcome::Ok if is_there() => Ok(()),
            _ => Err(format!("{} is not installed, and could not be", self.package)),
        }
    }
}

/// Each with python3 against the library that was just built.
pub(crate) fn python(place: &Place, report: &mut Report) {
    let mut scripts = files(&place.root.join("examples/python"), "py");
    // See languages.rs.
    scripts.retain(|script| !name_of(script).starts_with(TOUR_PREFIX));
    if !exists("python3") {
        report.step("examples in Python", || Outcome::Skipped(missing("python3")));
        return;
    }
    let scratch = match Scratch::new(place) {
        Ok(scratch) => scratch,
        Err(reason) => {
            report.step("examples in Python", || Outcome::Failed(reason));
            return;
        }
    };
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).current_dir(&place.root).env("PYTHONDONTWRITEBYTECODE", "1");
        scratch.environment(command, place)
    };
    if scripts.is_empty() {
        report.step("examples in Python", || Outcome::Skipped("there are none".to_owned()));
    }
    for script in scripts {
        report.step(&format!("example {}", shown(place, &script)), || {
            run_example(python(&[&script.to_string_lossy()]))
        });
    }
}

/// Where examples are compiled to.
pub(crate) struct Scratch {
    programs: PathBuf,
    plugins: PathBuf,
    /// Has the library in it under its names.
    pub(crate) libraries: PathBuf,
}

impl Scratch {
    pub(crate) fn new(place: &Place) -> Result<Scratch, String> {
        let top = place.built.join("examples-in-c");
        let scratch = Scratch {
            programs: top.join("programs"),
            plugins: top.join("plugins"),
            libraries: top.join("libraries"),
        };
        for directory in [&scratch.programs, &scratch.plugins, &scratch.libraries] {
            fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        scratch.name_library(place).map_err(|error| format!("{}: {error}", scratch.libraries.display()))?;
        Ok(scratch)
    }

    /// Programs look for the library by its SONAME, which is not the name that cargo gives to the file.
    fn name_library(&self, place: &Place) -> std::io::Result<()> {
        let library = place.built.join("libresay.so");
        let mut names = vec!["libresay.so".to_owned()];
        let dynamic = Command::new("readelf").arg("-d").arg(&library).output();
        if let Ok(output) = dynamic {
            let text = String::from_utf8_lossy(&output.stdout);
            let soname = text.lines().find(|line| line.contains("(SONAME)"));
            let bracketed = soname.and_then(|line| line.split_once('[')?.1.split_once(']'));
            names.extend(bracketed.map(|(name, _)| name.to_owned()));
        }
        for name in names {
            let link = self.libraries.join(name);
            if !link.is_symlink() {
                symlink(&library, link)?;
            }
        }
        Ok(())
    }

    /// What an example may rely on.
    pub(crate) fn environment(&self, mut command: Command, place: &Place) -> Command {
        let paths = [self.plugins.as_path(), place.built.as_path()];
        command.env("RESAY_LIBRARY", place.built.join("libresay.so"));
        // Neither path can hold a colon that cargo would have let pass.
        command.env("RESAY_PLUGIN_PATH", std::env::join_paths(paths).unwrap_or_default());
        command.current_dir(&place.root);
        command
    }
}

fn compile(place: &Place, compiler: &str, source: &Path, output: &Path) -> Command {
    let mut command = Command::new(compiler);
    command.args(C_FLAGS).arg("-I").arg(place.root.join("include"));
    command.arg(source).arg("-o").arg(output).current_dir(&place.root);
    command
}

/// The files of a directory with that extension, by name.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

pub(crate) fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

pub(crate) fn missing(program: &str) -> String {
    format!("{program} is not installed")
}

fn name_of(source: &Path) -> String {
    source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn shown(place: &Place, path: &Path) -> String {
    path.strip_prefix(&place.root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_from_the_documentation() {
        let source = "//! Shows.\n//!\n//! ```text\n//! one\n//!\n//!   two\n//! ```\n\nfn main() {}\n";
        assert_eq!(shown_output(source).as_deref(), Some("one\n\n  two\n"));
        assert_eq!(shown_output("//! Shows nothing.\nfn main() {}\n"), None);
    }

    #[test]
    fn ports_and_nothing_else_are_hidden() {
        let printed = "tcp://127.0.0.1:4711?frame=lines 42\nudp://127.0.0.1:1\n";
        let hidden = "tcp://127.0.0.1:PORT?frame=lines 42\nudp://127.0.0.1:PORT\n";
        assert_eq!(without_ports(printed), hidden);
        assert_eq!(without_ports("nothing 127"), "nothing 127");
    }
}
