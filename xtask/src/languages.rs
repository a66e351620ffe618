//! The tour of docs/languages.md in each language that is at hand, against the library that was just built. All print the
//! same: three kinds of sockets, a transform of the program's own, another chain, the end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::examples::{C_FLAGS, Scratch, exists, missing};
use crate::place::Place;
use crate::report::{Outcome, Report, capture, capture_output};

/// What each prints.
pub(crate) const PRINTED: &str =
    "tcp: hello -> hello!\nudp: hello -> hello!\nunix: hello -> hello!\ntcp: hello -> HELLO!\n";

/// Also what has changed since, and what C++20 made possible.
const CXX_FLAGS: [&str; 7] =
    ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wold-style-cast", "-Wextra-semi", "-Werror"];

/// The first whose standard library has the names that the tour uses.
const ZIG_MINOR_MIN: u32 = 15;

/// Makes the command of a tour, or says why there is none.
type Make = fn(&Tour) -> Result<Command, Outcome>;

const LANGUAGES: [(&str, Make); 8] = [
    ("examples/c/tour.c", Tour::c),
    ("examples/cpp/tour.cpp", Tour::cpp),
    ("examples/python/tour_ctypes.py", Tour::ctypes),
    ("examples/python/tour_cffi.py", Tour::cffi),
    ("examples/go/tour.go", Tour::go),
    ("examples/node/tour.js", Tour::node),
    ("examples/lua/tour.lua", Tour::lua),
    ("examples/zig/tour.zig", Tour::zig),
];

pub(crate) fn all(place: &Place, report: &mut Report) {
    let tour = match Tour::new(place) {
        Ok(tour) => tour,
        Err(reason) => {
            report.step("tours", || Outcome::Failed(reason));
            return;
        }
    };
    for (source, make) in LANGUAGES {
        report.step(source, || match make(&tour) {
            Ok(command) => {
                let mut command = tour.scratch.environment(command, place);
                command.current_dir(&tour.directory);
                prints_the_tour(command).into()
            }
            Err(outcome) => outcome,
        });
    }
}

/// Runs a tour and compares what it prints.
pub(crate) fn prints_the_tour(command: Command) -> Result<(), String> {
    match capture_output(command)? {
        printed if printed == PRINTED => Ok(()),
        printed => Err(format!("prints\n{printed}\nand not\n{PRINTED}")),
    }
}

struct Tour {
    root: PathBuf,
    scratch: Scratch,
    /// Where programs are built and run: sockets of unix appear here.
    directory: PathBuf,
    /// For what is fetched, and stays from one run to the next.
    tools: PathBuf,
    include: PathBuf,
}

impl Tour {
    fn new(place: &Place) -> Result<Tour, String> {
        let (directory, tools) = (place.built.join("tours"), place.target()?.join("tools"));
        for path in [&directory, &tools] {
            fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let include = place.root.join("include");
        Ok(Tour { root: place.root.clone(), scratch: Scratch::new(place)?, directory, tools, include })
    }

    fn source(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn c(&self) -> Result<Command, Outcome> {
        self.compiled("CC", "cc", &C_FLAGS, "examples/c/tour.c")
    }

    fn cpp(&self) -> Result<Command, Outcome> {
        self.compiled("CXX", "c++", &CXX_FLAGS, "examples/cpp/tour.cpp")
    }

    fn compiled(
        &self,
        variable: &str,
        usual: &str,
        flags: &[&str],
        source: &str,
    ) -> Result<Command, Outcome> {
        let compiler = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
        if !exists(&compiler) {
            return Err(Outcome::Skipped(missing(&compiler)));
        }
        let program = self.directory.join(format!("tour-{variable}"));
        let mut compile = Command::new(compiler);
        compile.args(flags).arg("-I").arg(&self.include).arg(self.source(source)).arg("-o").arg(&program);
        compile.arg("-L").arg(&self.scratch.libraries).arg("-lresay").arg(self.runtime_path());
        finish(compile)?;
        Ok(Command::new(program))
    }

    fn runtime_path(&self) -> String {
        format!("-Wl,-rpath,{}", self.scratch.libraries.display())
    }

    fn ctypes(&self) -> Result<Command, Outcome> {
        self.python("python3".into(), "examples/python/tour_ctypes.py")
    }

    /// With the cffi that Python has, or one that pip fetches.
    fn cffi(&self) -> Result<Command, Outcome> {
        const SCRIPT: &str = "examples/python/tour_cffi.py";
        let has_cffi = |python: &Path| answers(python, &["-c", "import cffi"]);
        let environment = self.tools.join("python");
        let own = environment.join("bin/python3");
        if exists("python3") && !has_cffi(Path::new("python3")) && !has_cffi(&own) {
            let refused = |_| Outcome::Skipped("cffi is not installed, and pip could not".to_owned());
            let mut make = Command::new("python3");
            make.args(["-m", "venv"]).arg(&environment);
            finish(make).map_err(refused)?;
            let mut fetch = Command::new(&own);
            fetch.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "cffi"]);
            finish(fetch).map_err(refused)?;
        }
        let python = if has_cffi(&own) { own } else { "python3".into() };
        let mut command = self.python(python, SCRIPT)?;
        command.arg(self.include.join("resay.cdef"));
        Ok(command)
    }

    fn python(&self, python: PathBuf, script: &str) -> Result<Command, Outcome> {
        if !answers(&python, &["--version"]) {
            return Err(Outcome::Skipped(missing("python3")));
        }
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(self.source(script));
        Ok(command)
    }

    fn go(&self) -> Result<Command, Outcome> {
        if !answers("go", &["version"]) {
            return Err(Outcome::Skipped(missing("go")));
        }
        let program = self.directory.join("tour-go");
        let mut build = Command::new("go");
        build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".");
        build.current_dir(self.source("examples/go"));
        build.env("GOCACHE", self.tools.join("go/cache")).env("GOPATH", self.tools.join("go/path"));
        build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("CGO_ENABLED", "1");
        build.env("CGO_CFLAGS", format!("-I{}", self.include.display()));
        build.env("CGO_LDFLAGS", format!("-L{} {}", self.scratch.libraries.display(), self.runtime_path()));
        finish(build)?;
        Ok(Command::new(program))
    }

    /// With the koffi that package.json names.
    fn node(&self) -> Result<Command, Outcome> {
        for program in ["node", "npm"] {
            if !exists(program) {
                return Err(Outcome::Skipped(missing(program)));
            }
        }
        let modules = self.tools.join("node");
        let (wanted, known) = (self.source("examples/node/package.json"), modules.join("package.json"));
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        if text(&wanted) != text(&known) {
            let failed = |error| Outcome::Failed(format!("{}: {error}", known.display()));
            fs::create_dir_all(&modules).map_err(failed)?;
            fs::write(&known, text(&wanted)).map_err(failed)?;
            let mut fetch = Command::new("npm");
            fetch.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&modules);
            if finish(fetch).is_err() {
                // So that the next run tries again.
                let _ = fs::remove_file(&known);
                return Err(Outcome::Skipped("koffi is not installed, and npm could not".to_owned()));
            }
        }
        let mut command = Command::new("node");
        command.env("NODE_PATH", modules.join("node_modules")).arg(self.source("examples/node/tour.js"));
        Ok(command)
    }

    fn lua(&self) -> Result<Command, Outcome> {
        if !answers("luajit", &["-v"]) {
            return Err(Outcome::Skipped(missing("luajit")));
        }
        let mut command = Command::new("luajit");
        command.arg(self.source("examples/lua/tour.lua")).arg(self.include.join("resay.cdef"));
        Ok(command)
    }

    fn zig(&self) -> Result<Command, Outcome> {
        let mut version = Command::new("zig");
        version.arg("version");
        let Ok(version) = capture(version) else { return Err(Outcome::Skipped(missing("zig"))) };
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        if version.starts_with("0.") && minor.is_some_and(|minor| minor < ZIG_MINOR_MIN) {
            return Err(Outcome::Skipped(format!("zig {} is older than 0.{ZIG_MINOR_MIN}", version.trim())));
        }
        let cached = |mut command: Command| {
            command.env("ZIG_GLOBAL_CACHE_DIR", self.tools.join("zig/global"));
            command.env("ZIG_LOCAL_CACHE_DIR", self.tools.join("zig/local")).current_dir(&self.directory);
            command
        };
        let mut translate = Command::new("zig");
        translate.args(["translate-c", "-lc"]).arg(format!("-I{}", self.include.display()));
        translate.arg(self.include.join("resay.h"));
        // Without what it says on the standard error.
        let module = self.directory.join("resay.zig");
        let failed = |error| Outcome::Failed(format!("{}: {error}", module.display()));
        let text = capture_output(cached(translate)).map_err(Outcome::Failed)?;
        fs::write(&module, text).map_err(failed)?;
        let mut build = Command::new("zig");
        let mut root = OsString::from("-Mroot=");
        root.push(self.source("examples/zig/tour.zig"));
        build.args(["build-exe", "--name", "tour-zig", "--dep", "resay"]).arg(root).arg("-Mresay=resay.zig");
        build.arg(format!("-L{}", self.scratch.libraries.display())).args(["-lresay", "-lc"]);
        finish(cached(build))?;
        let mut command = Command::new(self.directory.join("tour-zig"));
        command.env("LD_LIBRARY_PATH", &self.scratch.libraries);
        Ok(command)
    }
}

fn answers(program: impl AsRef<Path>, arguments: &[&str]) -> bool {
    let answer = Command::new(program.as_ref()).args(arguments).stdin(Stdio::null()).output();
    answer.is_ok_and(|output| output.status.success())
}

fn finish(command: Command) -> Result<(), Outcome> {
    capture(command).map(drop).map_err(Outcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_languages_shows_what_they_print_and_names_each() {
        let page = include_str!("../../docs/languages.md");
        assert!(page.contains(&format!("```text\n{PRINTED}```")));
        for (source, _) in LANGUAGES {
            assert!(page.contains(&format!("`{source}`:")), "{source}");
        }
    }
}
