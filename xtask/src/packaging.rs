//! What `install` and `deb` make, tried as others would use it: programs linked by pkg-config and CMake, from a tree
//! that was moved since it was installed, and the command with its plugins. So are the packages to publish.

mod linking;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::deb::{self, Refusal, Size};
use crate::examples::{exists, missing};
use crate::files::{about, files_in, remove};
use crate::install::{self, Library, NOTICES, PLUGIN_DIRECTORY, Request};
use crate::languages::prints_the_tour;
use crate::packages;
use crate::place::Place;
use crate::report::{Outcome, Report, capture};

/// The stripped shared library is to stay below this.
const LIBRARY_BYTES_MAX: u64 = 2 << 20;

const C_FLAGS: [&str; 4] = ["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Werror"];

/// Installs, and runs every step on that.
pub(crate) fn all(place: &Place, report: &mut Report) {
    report.step("packages to publish, compiled", || packages::compile(place));
    // The build of what is installed ends with one linker, and leaves a processor to this.
    let tool = deb::prepare(place);
    let top = place.built.join("packaging");
    let first = Tree::new(place, &top, "first", "lib");
    let installed = report.step("install", || remove(&top).and_then(|()| first.install()).into());
    if !installed {
        report.step("packaging", || Outcome::Skipped("nothing was installed".to_owned()));
        return;
    }
    report.step("installed library", || needs(&["readelf"], || first.check_library()));
    report.step("symbols of both libraries", || needs(&["nm"], || first.check_symbols()));
    report.step("notices of third parties", || first.check_notices().into());
    report.step("pkg-config", || needs(&[&cc(), "pkg-config", "readelf"], || first.link_shared("first")));
    // Nothing may know where it was installed.
    let moved = Tree::new(place, &top, "moved", "lib");
    if !report.step("move the tree", || {
        fs::rename(&first.prefix, &moved.prefix).map_err(about(&moved.prefix)).into()
    }) {
        return;
    }
    report.step("pkg-config, moved", || {
        needs(&[&cc(), "pkg-config", "readelf"], || moved.link_shared("moved"))
    });
    report.step("pkg-config --static, moved", || {
        needs(&[&cc(), "pkg-config", "readelf"], || moved.link_archive())
    });
    let tools = [cc(), "pkg-config".to_owned(), "nm".to_owned()];
    let tools = tools.each_ref().map(String::as_str);
    report.step("two archives of Rust in one program", || needs(&tools, || moved.two_archives()));
    report.step("the archive in two shared libraries", || needs(&tools, || moved.two_libraries()));
    report.step("CMake, moved", || needs(&[&cc(), "cmake", "make"], || moved.cmake()));
    report.step("C++17 by CMake, moved", || needs(&[&cxx(), "cmake", "make"], || moved.cmake_tour()));
    report.step("command and plugins, moved", || needs(&[&cc()], || moved.command()));
    for (lang, programs) in
        [("c", vec![cc(), "make".to_owned()]), ("c++", vec![cxx(), "make".to_owned()]), ("rust", vec![])]
    {
        let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
        report
            .step(&format!("a new plugin in {lang}, moved"), || needs(&programs, || moved.new_plugin(lang)));
    }
    report.step("a program that finds plugins near the library", || {
        needs(&[&cc(), "pkg-config", "readelf"], || moved.plugins_of_a_program())
    });
    report.step("manual pages", || needs(&["man"], || moved.manual_pages()));
    for shell in ["bash", "zsh", "fish"] {
        report.step(&format!("completions in {shell}"), || needs(&[shell], || moved.completions(shell)));
    }
    report.step("DESTDIR and libdir", || needs(&[&cc(), "pkg-config", "readelf"], || destdir(place, &top)));
    // Whether it could be built is seen there.
    let _ = tool.join();
    report.step("Debian packages", || debian(place, &top));
    let packages = top.join("debian");
    report.step("lintian", || match files_in(&packages) {
        Ok(packages) => needs(&["lintian"], || lint(&packages)),
        Err(_) => Outcome::Skipped("there are no packages".to_owned()),
    });
}

fn needs(programs: &[&str], step: impl FnOnce() -> Result<(), String>) -> Outcome {
    match programs.iter().find(|program| !exists(program)) {
        Some(program) => Outcome::Skipped(missing(program)),
        None => step().into(),
    }
}

fn cc() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".to_owned())
}

fn cxx() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

fn expect(is: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(what()) }
}

/// An installed tree, wherever it is now.
struct Tree<'a> {
    place: &'a Place,
    /// Where programs are built.
    top: PathBuf,
    prefix: PathBuf,
    libdir: &'a str,
}

impl<'a> Tree<'a> {
    fn new(place: &'a Place, top: &Path, name: &str, libdir: &'a str) -> Tree<'a> {
        Tree { place, top: top.to_owned(), prefix: top.join(name), libdir }
    }

    fn install(&self) -> Result<(), String> {
        let (prefix, libdir) = (self.prefix.clone(), PathBuf::from(self.libdir));
        install::install(self.place, &Request { prefix, libdir, destdir: None, strip: true }).map(drop)
    }

    fn libraries(&self) -> PathBuf {
        self.prefix.join(self.libdir)
    }

    /// Names and size of the shared library.
    fn check_library(&self) -> Result<(), String> {
        let names = Library::describe(self.place)?;
        let libraries = self.libraries();
        for (link, target) in [("libresay.so", &names.soname), (names.soname.as_str(), &names.file)] {
            let link = libraries.join(link);
            let found = fs::read_link(&link).map_err(about(&link))?;
            expect(found == Path::new(target), || {
                format!("{} leads to {}", link.display(), found.display())
            })?;
        }
        let library = libraries.join(&names.file);
        let dynamic = capture(tool("readelf", &["-d"], &library))?;
        let soname = format!("Library soname: [{}]", names.soname);
        expect(dynamic.contains(&soname), || format!("no {soname} in\n{dynamic}"))?;
        let bytes = fs::metadata(&library).map_err(about(&library))?.len();
        println!("{}: {bytes} bytes, stripped", names.file);
        expect(bytes < LIBRARY_BYTES_MAX, || format!("{bytes} bytes, at most {LIBRARY_BYTES_MAX}"))
    }

    /// Everything that is linked is named, with its licences, and nothing that only builds or tests Resay.
    fn check_notices(&self) -> Result<(), String> {
        let file = self.prefix.join("share/doc/resay").join(NOTICES);
        let text = fs::read_to_string(&file).map_err(about(&file))?;
        let linked = install::linked(self.place)?;
        let listed: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(": ")).collect();
        for package in &linked {
            let name = format!("{} {}", package.name, package.version);
            expect(listed.iter().any(|(listed, _)| *listed == name), || format!("{name} is not listed"))?;
            let heads = text.lines().filter(|line| line.split(", ").any(|part| part == name));
            expect(heads.count() > 0, || format!("no licence of {name}"))?;
        }
        for (name, is_there) in
            [("clap", true), ("libc", true), ("resay", false), ("criterion", false), ("cbindgen", false)]
        {
            expect(linked.iter().any(|package| package.name == name) == is_there, || {
                format!("{name} is {} linked", if is_there { "not" } else { "said to be" })
            })?;
        }
        Ok(())
    }

    /// What pkg-config says of resay, as separate arguments.
    fn pkg_config(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let mut command = Command::new("pkg-config");
        command.args(arguments).arg("resay");
        // Where it is, and nowhere else.
        command.env("PKG_CONFIG_LIBDIR", self.libraries().join("pkgconfig")).env_remove("PKG_CONFIG_PATH");
        Ok(capture(command)?.split_whitespace().map(str::to_owned).collect())
    }

    /// Compiles packaging/test/peer.c with these flags behind it.
    fn compile_peer(&self, name: &str, flags: &[String]) -> Result<PathBuf, String> {
        let program = self.top.join(format!("peer-{name}"));
        let mut command = Command::new(cc());
        command.args(C_FLAGS).arg("-o").arg(&program).arg(source(self.place, "peer.c")).args(flags);
        capture(command)?;
        Ok(program)
    }

    /// A program that finds this tree's shared library.
    fn with_library(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.libraries()).env_remove("RESAY_PLUGIN_PATH");
        command
    }

    /// cc peer.c $(pkg-config --cflags --libs resay)
    fn link_shared(&self, name: &str) -> Result<(), String> {
        let program = self.compile_peer(name, &self.pkg_config(&["--cflags", "--libs"])?)?;
        let mut run = self.with_library(&program);
        run.args(["uppercase", "hello", "HELLO"]);
        expect_line(run, "HELLO")?;
        let needed = capture(tool("readelf", &["-d"], &program))?;
        let soname = format!("Shared library: [{}]", Library::describe(self.place)?.soname);
        expect(needed.contains(&soname), || format!("no {soname} in\n{needed}"))
    }

    /// The archive, in the three ways in which it can be asked for.
    fn link_archive(&self) -> Result<(), String> {
        // Beside the shared library, by the variable.
        let mut flags = self.pkg_config(&["--cflags"])?;
        flags.extend(self.pkg_config(&["--variable=static_libs"])?);
        let by_variable = self.compile_peer("variable", &flags)?;
        // Where there is nothing else.
        let alone = Tree::new(self.place, &self.top, "alone", self.libdir);
        let copied = Command::new("cp").arg("-a").arg(&self.prefix).arg(&alone.prefix).status();
        expect(copied.is_ok_and(|status| status.success()), || format!("cp -a {}", alone.prefix.display()))?;
        for path in files_in(&alone.libraries())? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libresay.so")) {
                fs::remove_file(&path).map_err(about(&path))?;
            }
        }
        let flags = alone.pkg_config(&["--static", "--cflags", "--libs"])?;
        let by_name = alone.compile_peer("static", &flags)?;
        for program in [&by_variable, &by_name] {
            expect_line(Command::new(program), "hello")?;
            let needed = capture(tool("readelf", &["-d"], program))?;
            expect(!needed.contains("libresay"), || format!("{} needs libresay.so", program.display()))?;
        }
        // With nothing shared at all, where the system's libraries allow that.
        let mut entirely = self.pkg_config(&["--static", "--cflags", "--libs"])?;
        entirely.push("-static".to_owned());
        let program = self.compile_peer("entirely", &entirely)?;
        expect_line(Command::new(&program), "hello")?;
        let dynamic = capture(tool("readelf", &["-d"], &program))?;
        expect(!dynamic.contains("NEEDED"), || format!("needs libraries:\n{dynamic}"))
    }

    /// Configures and builds a project with `find_package(resay)`: where its programs are, and what configuring printed.
    fn build_by_cmake(&self, project: &str, directory: &str) -> Result<(PathBuf, String), String> {
        let build = self.top.join(directory);
        let mut configure = Command::new("cmake");
        configure.arg("-S").arg(self.place.root.join(project)).arg("-B").arg(&build);
        configure.arg(format!("-DCMAKE_PREFIX_PATH={}", self.prefix.display()));
        let said = capture(configure)?;
        let mut make = Command::new("cmake");
        make.arg("--build").arg(&build);
        capture(make)?;
        Ok((build, said))
    }

    /// A project with every target: each program runs.
    fn cmake(&self) -> Result<(), String> {
        let (build, said) = self.build_by_cmake("packaging/test", "cmake")?;
        let version = format!("resay {}, plugins in {}", env!("CARGO_PKG_VERSION"), self.prefix.display());
        expect(said.contains(&version), || format!("no {version:?} in\n{said}"))?;
        for (program, line) in
            [("peer_shared", "hello"), ("peer_static", "hello"), ("abi_shared", ""), ("abi_static", "")]
        {
            expect_line(by_its_own_path(&build.join(program)), line)?;
        }
        let info = capture(self.resay(&["plugin", "info", &build.join("libquote.so").to_string_lossy()]))?;
        expect(info.contains("quote 1.0.0"), || format!("the plugin in C++: {info}"))
    }

    /// The tour in C++, as its first lines say.
    fn cmake_tour(&self) -> Result<(), String> {
        let (build, _) = self.build_by_cmake("examples/cpp", "cmake-tour")?;
        let mut tour = by_its_own_path(&build.join("tour"));
        tour.current_dir(&build);
        prints_the_tour(tour)
    }

    /// Compiles a plugin that is not bundled, to where plugins are installed.
    fn add_plugin(&self) -> Result<PathBuf, String> {
        let library = self.prefix.join(PLUGIN_DIRECTORY).join("libshout.so");
        let mut compile = Command::new(cc());
        compile.args(C_FLAGS).args(["-shared", "-fPIC", "-I"]).arg(self.prefix.join("include"));
        compile.arg("-o").arg(&library).arg(source(self.place, "plugin_shout.c"));
        capture(compile)?;
        Ok(library)
    }

    /// `resay` of this tree, with nothing that leads elsewhere.
    fn resay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.prefix.join("bin/resay"));
        command.args(arguments).env_remove("RESAY_PLUGIN_PATH").current_dir(&self.top);
        command
    }

    /// The command runs, finds what lies in its prefix, and serves with it.
    fn command(&self) -> Result<(), String> {
        let version = capture(self.resay(&["--version"]))?;
        expect(version.trim() == format!("resay {}", env!("CARGO_PKG_VERSION")), || version.clone())?;
        let shout = self.add_plugin()?;
        let list = capture(self.resay(&["plugin", "list"]))?;
        let found = list.lines().find(|line| line.starts_with("shout "));
        expect(found.is_some_and(|line| line.contains(&*shout.to_string_lossy())), || {
            format!("{} is not in\n{list}", shout.display())
        })?;
        // The bundled ones are named by their files here: a name alone finds those in the engine first.
        let names = install::plugins(self.place)?;
        expect(!names.is_empty(), || "there are no plugins".to_owned())?;
        for name in names {
            let file = self.prefix.join(PLUGIN_DIRECTORY).join(format!("lib{name}.so"));
            let info = capture(self.resay(&["plugin", "info", &file.to_string_lossy()]))?;
            expect(info.contains(&name), || format!("{}: {info}", file.display()))?;
        }
        self.serve("shout | uppercase", "hello.", "HELLO!")
    }

    /// `resay plugin new` makes a project that builds with nothing but what is in it, passes the check, and serves.
    fn new_plugin(&self, lang: &str) -> Result<(), String> {
        let projects = self.top.join(format!("new-{lang}"));
        remove(&projects)?;
        fs::create_dir_all(&projects).map_err(about(&projects))?;
        let made =
            self.resay(&["plugin", "new", "flip", "--lang", lang, "--dir", &projects.to_string_lossy()]);
        capture(made)?;
        let project = projects.join("flip");
        let library = if lang == "rust" {
            let mut cargo = self.place.cargo("build --release --offline --quiet");
            cargo.current_dir(&project).env("CARGO_TARGET_DIR", project.join("target"));
            capture(cargo)?;
            project.join("target/release/libflip.so")
        } else {
            let mut make = Command::new("make");
            make.arg("-C").arg(&project);
            capture(make)?;
            project.join("libflip.so")
        };
        let file = library.to_string_lossy();
        let report = capture(self.resay(&["plugin", "check", &file]))?;
        expect(!report.contains("  hint  "), || report.clone())?;
        self.serve(&file, "Hello", "hELLO")
    }

    /// Serves a chain, asks it once, and ends it by its control socket.
    fn serve(&self, chain: &str, message: &str, expected: &str) -> Result<(), String> {
        let mut serve =
            self.resay(&["serve", "tcp://127.0.0.1:0", "-q", "--transform", chain, "--control", "control"]);
        let mut server =
            serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(about(&self.prefix))?;
        let mut line = String::new();
        let said = server.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let asked = match (said, line.trim().strip_prefix("listening ")) {
            // Over TCP the answer is complete when the sender has ended its side.
            (Some(Ok(_)), Some(url)) => capture(self.resay(&["send", url, message, "--expect", expected])),
            _ => Err(format!("serve says {line:?}")),
        };
        let ended = capture(self.resay(&["ctl", "control", "stop"]));
        if asked.is_err() || ended.is_err() {
            // It may be gone already.
            let _ = server.kill();
        }
        let status = server.wait().map_err(|error| format!("serve: {error}"))?;
        asked.and(ended)?;
        expect(status.success(), || format!("serve: {status}"))
    }

    /// A program elsewhere that links the library finds the plugin by its name.
    fn plugins_of_a_program(&self) -> Result<(), String> {
        self.add_plugin()?;
        let elsewhere = self.top.join("elsewhere/bin");
        fs::create_dir_all(&elsewhere).map_err(about(&elsewhere))?;
        let built = self.compile_peer("plugins", &self.pkg_config(&["--cflags", "--libs"])?)?;
        let program = elsewhere.join("peer");
        fs::rename(&built, &program).map_err(about(&program))?;
        let mut run = self.with_library(&program);
        run.args(["shout", "hello.", "hello!"]);
        expect_line(run, "hello!")
    }

    /// Each page is formatted without a warning.
    fn manual_pages(&self) -> Result<(), String> {
        let pages = files_in(&self.prefix.join("share/man/man1"))?;
        expect(pages.len() > 10, || format!("only {} pages", pages.len()))?;
        for page in pages {
            let mut man = Command::new("man");
            man.args(["--warnings", "-E", "UTF-8", "-l"])
                .arg(&page)
                .env("MANWIDTH", "80")
                .env("MANROFFSEQ", "");
            let text = capture(man)?;
            let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for part in ["NAME", "SYNOPSIS", &name] {
                expect(text.contains(part), || format!("{}: no {part} in\n{text}", page.display()))?;
            }
            expect(!text.contains("warning"), || format!("{}:\n{text}", page.display()))?;
        }
        Ok(())
    }

    /// The shell reads its file, and completes a command and an option.
    fn completions(&self, shell: &str) -> Result<(), String> {
        let share = self.prefix.join("share");
        let (file, script) = match shell {
            "bash" => (
                share.join("bash-completion/completions/resay"),
                "source \"$1\"; COMP_WORDS=(resay serve --dr); COMP_CWORD=2; _resay resay --dr serve; \
                 echo \"${COMPREPLY[@]}\"",
            ),
            // Its completions are for the line editor; here what they are made of is enough.
            "zsh" => (
                share.join("zsh/site-functions/_resay"),
                "zsh -n \"$1\" && grep -o -m1 -e --drain-timeout \"$1\"",
            ),
            _ => (
                share.join("fish/vendor_completions.d/resay.fish"),
                "source $argv[1]; complete -C 'resay serve --dr' | string split -f1 \\t",
            ),
        };
        let mut command = Command::new(shell);
        match shell {
            "bash" => command.args(["--norc", "-c", script, "bash"]),
            "zsh" => command.args(["-f", "-c", script, "zsh"]),
            _ => command.args(["--no-config", "-c", script]),
        };
        command.arg(&file).env("HOME", &self.top);
        expect_line(command, "--drain-timeout")
    }
}

/// A program that knows where its library is. Cargo sets a path that would come first, to libraries of a build.
fn by_its_own_path(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

fn source(place: &Place, name: &str) -> PathBuf {
    place.root.join("packaging/test").join(name)
}

fn tool(program: &str, arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).env("LC_ALL", "C");
    command
}

fn expect_line(command: Command, line: &str) -> Result<(), String> {
    let name = format!("{command:?}");
    let printed = capture(command)?;
    expect(printed.trim() == line, || format!("{name} printed {printed:?}, not {line:?}"))
}

/// Installed below DESTDIR, for another prefix, with the libraries where Debian has them.
fn destdir(place: &Place, top: &Path) -> Result<(), String> {
    let stage = top.join("stage");
    let libdir = format!("lib/{}", deb::triplet());
    let arguments = ["--prefix=/usr".to_owned(), format!("--libdir={libdir}")];
    let request = Request::parse(&arguments, Some(stage.clone()))?;
    for path in install::install(place, &request)? {
        expect(path.starts_with(stage.join("usr")), || format!("{} is elsewhere", path.display()))?;
        expect(path.symlink_metadata().is_ok(), || format!("{} is not there", path.display()))?;
    }
    let tree = Tree::new(place, &stage, "usr", &libdir);
    tree.link_shared("destdir")?;
    // The other directory of libraries changes nothing for plugins: the command finds them, and so does a program.
    tree.add_plugin()?;
    tree.serve("shout", "hello.", "hello!")?;
    tree.plugins_of_a_program()
}

/// The packages are made, hold together, are installed into a directory, and used from there.
fn debian(place: &Place, top: &Path) -> Outcome {
    let packages = match deb::packages(place, &top.join("debian"), Size::Large) {
        Ok(packages) => packages,
        Err(Refusal::Missing(reason)) => return Outcome::Skipped(reason),
        Err(Refusal::Failed(reason)) => return Outcome::Failed(reason),
    };
    needs(&[&cc(), "pkg-config", "readelf"], || use_debian(place, top, &packages))
}

/// Errors of lintian(1), without those about a maintainer with no address: that is for whoever packages to say.
fn lint(packages: &[PathBuf]) -> Result<(), String> {
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--allow-root", "--fail-on", "error", "--suppress-tags", "malformed-contact"])
        .args(packages);
    capture(lintian).map(|warnings| print!("{warnings}"))
}

fn use_debian(place: &Place, top: &Path, packages: &[PathBuf]) -> Result<(), String> {
    let mut found = Vec::new();
    for package in packages {
        let field = |name: &str| {
            let mut command = Command::new("dpkg-deb");
            command.arg("-f").arg(package).arg(name);
            capture(command).map(|text| text.trim().to_owned())
        };
        found.push((field("Package")?, field("Version")?, field("Depends")?));
    }
    let names: Vec<_> = found.iter().map(|(name, _, _)| name.as_str()).collect();
    expect(names == ["libresay1", "libresay-dev", "resay"], || format!("{names:?}"))?;
    for (name, _, depends) in &found {
        let wanted = if name == "libresay-dev" {
            format!("libresay1 (= {})", found[0].1)
        } else {
            "libc6 (>= ".to_owned()
        };
        expect(depends.contains(&wanted), || format!("{name} depends on {depends:?}, not on {wanted}"))?;
    }
    let root = top.join("debian-root");
    let database = root.join("var/lib/dpkg");
    fs::create_dir_all(&database).map_err(about(&database))?;
    // Into a system of its own, which has no libc6; only root may do that.
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display())).args(["--force-depends", "--install"]).args(packages);
    let status = Command::new("id").arg("-u").output();
    let is_root = status.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if is_root {
        capture(dpkg)?;
        println!("installed by dpkg --root");
        let mut list = Command::new("dpkg-query");
        list.arg(format!("--admindir={}", database.display())).args([
            "-f",
            "${Package} ${db:Status-Abbrev}\n",
            "-W",
        ]);
        let list = capture(list)?;
        expect(
            list.lines().filter(|line| line.trim_end().ends_with(" ii")).count() == packages.len(),
            || list.clone(),
        )?;
    } else {
        for package in packages {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(package).arg(&root);
            capture(unpack)?;
        }
        println!("unpacked by dpkg-deb -x: only root can have dpkg install into another root");
    }
    for name in names {
        let notices = root.join("usr/share/doc").join(name).join(NOTICES);
        expect(notices.is_file(), || format!("{} is not there", notices.display()))?;
    }
    for file in ["resay.h", "resay_plugin.h", "resay.cdef", "resay.json"] {
        let file = root.join("usr/include").join(file);
        expect(file.is_file(), || format!("{} is not there", file.display()))?;
    }
    let libdir = format!("lib/{}", deb::triplet());
    let tree = Tree::new(place, &root, "usr", &libdir);
    tree.link_shared("deb")?;
    tree.command()?;
    let page = root.join("usr/share/man/man1/resay-serve.1.gz");
    expect(page.is_file(), || format!("{} is not there", page.display()))
}
