//! The installed archive beside other code: with another library of Rust in one program, and in two shared libraries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{C_FLAGS, Tree, cc, expect, expect_line, source, tool};
use crate::install::{Library, exported};
use crate::report::capture;

impl Tree<'_> {
    /// Both libraries have the same names, those of the interface; those of the shared one have a version.
    pub(super) fn check_symbols(&self) -> Result<(), String> {
        let names = Library::describe(self.place)?;
        let version = format!("RESAY_{}", names.soname.rsplit('.').next().unwrap_or_default());
        let shared = self.libraries().join(&names.file);
        let list = capture(tool("nm", &["-D", "--defined-only", "--with-symbol-versions"], &shared))?;
        let listed = list.lines().filter_map(|line| line.rsplit(' ').next());
        let mut functions = BTreeSet::new();
        // The version is listed as a symbol too.
        for name in listed.filter(|name| *name != version && *name != format!("{version}@@{version}")) {
            let function = name.strip_suffix(&format!("@@{version}"));
            functions
                .insert(function.ok_or_else(|| format!("{name} has not the version {version}"))?.to_owned());
        }
        let archive = self.libraries().join("libresay.a");
        let list = capture(tool("nm", &["--defined-only", "--extern-only", "--format=posix"], &archive))?;
        let symbols = list.lines().filter(|line| !line.ends_with(':'));
        let global: BTreeSet<_> =
            symbols.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        expect(
            functions.contains("resay_engine_new") && functions.iter().all(|name| name.starts_with("resay_")),
            || format!("the shared library exports {functions:?}"),
        )?;
        expect(functions == global, || {
            let other: Vec<_> = global.symmetric_difference(&functions).collect();
            format!("only one of the two libraries has {other:?}")
        })?;
        println!("{} functions in each library, {version}", functions.len());
        Ok(())
    }

    /// A program with two archives, each of which has Rust's standard library in it, in both orders.
    pub(super) fn two_archives(&self) -> Result<(), String> {
        let other = self.top.join("libother.a");
        let mut compile = self.place.rustc();
        compile.args(["--edition=2024", "-O", "--crate-type=staticlib", "-o"]).arg(&other);
        capture({
            compile.arg(source(self.place, "other.rs")).current_dir(&self.top);
            compile
        })?;
        let (flags, archive) = self.archive()?;
        let archives = [archive, other.display().to_string()];
        for (name, order) in [("first", [0, 1]), ("last", [1, 0])] {
            let program = self.top.join(format!("two-archives-{name}"));
            let mut compile = self.compiler("two_archives.c", &program);
            // All of both: of two archives by one compiler a linker could else take the standard library once.
            compile.arg("-Wl,--whole-archive").args(order.map(|index| &archives[index]));
            compile.arg("-Wl,--no-whole-archive").args(&flags);
            capture(compile)?;
            expect_line(Command::new(&program), "42 0 43")?;
        }
        Ok(())
    }

    /// The archive in two shared libraries of one program: they use one copy, the first, all of it, or with
    /// --exclude-libs each its own.
    pub(super) fn two_libraries(&self) -> Result<(), String> {
        let (flags, archive) = self.archive()?;
        for (option, copies) in [(None, "1"), (Some("-Wl,--exclude-libs,libresay.a"), "2")] {
            let mut libraries = Vec::new();
            for name in ["left", "right"] {
                let library = self.top.join(format!("lib{name}-{copies}.so"));
                let mut compile = self.compiler("half.c", &library);
                compile.args(["-shared", "-fPIC"]).arg(format!("-DNAME={name}"));
                capture({
                    compile.arg(&archive).args(&flags).args(option);
                    compile
                })?;
                let exports = exported(&library)?;
                let has_resay = exports.iter().any(|symbol| symbol == "resay_engine_new");
                let is_meant = |symbol: &str| {
                    symbol.starts_with(name) || option.is_none() && symbol.starts_with("resay_")
                };
                let other: Vec<_> = exports.iter().filter(|symbol| !is_meant(symbol)).collect();
                expect(other.is_empty() && has_resay == option.is_none(), || {
                    format!("{} exports {exports:?}", library.display())
                })?;
                libraries.push(library);
            }
            let program = self.top.join(format!("two-libraries-{copies}"));
            let mut compile = self.compiler("two_libraries.c", &program);
            compile.args(&libraries);
            capture(compile)?;
            expect_line(Command::new(&program), copies)?;
        }
        Ok(())
    }

    /// What the archive needs of the system, and where it is.
    fn archive(&self) -> Result<(Vec<String>, String), String> {
        let mut flags = self.pkg_config(&["--variable=static_libs"])?;
        let archive = flags.remove(0);
        expect(Path::new(&archive).is_file(), || format!("{archive} is not there"))?;
        Ok((flags, archive))
    }

    /// Compiles one of the programs; the libraries are for the caller to add.
    fn compiler(&self, name: &str, output: &PathBuf) -> Command {
        let mut command = Command::new(cc());
        command.args(C_FLAGS).arg("-I").arg(self.prefix.join("include"));
        command.arg("-o").arg(output).arg(source(self.place, name));
        command
    }
}
