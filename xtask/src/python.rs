//! The Python package, as its users get it: a wheel, installed into a fresh environment outside the tree for each Python
//! at hand, and tested there on both drivers. What a registry does not give is skipped, by name.
//!
//! The environments are made beside the steps before: a build ends with one linker, and pip needs the other processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use crate::examples::missing;
use crate::files::{about, files_in, remove};
use crate::install::NOTICES;
use crate::place::{Place, uring_refusal};
use crate::report::{Outcome, Report, Runner, capture, run, run_tests};

/// Those that the package names: `Requires-Python`.
const MINORS: [&str; 5] = ["3.9", "3.10", "3.11", "3.12", "3.13"];
/// Without these there is no test; the others are for tests that skip themselves.
const NEEDED: [&str; 3] = ["pytest", "pytest-asyncio", "hypothesis"];
const WANTED: [&str; 7] = ["trio", "uvloop", "gevent", "coverage", "pytest-xdist", "matplotlib", "trustme"];
const TYPES: [&str; 5] = ["mypy", "pytest", "pytest-asyncio", "hypothesis", "pyright[nodejs]"];
const BACKENDS: [&str; 2] = ["epoll", "uring"];
/// The wheel is to stay below this: 3 MiB for what tests need, and a quarter for what the command knows of operating a server.
const WHEEL_BYTES_MAX: u64 = (3 << 20) + (256 << 10);

/// On which drivers a Python runs the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drivers {
    /// On both.
    All,
    /// The newest on both, and the others on one in turn, which takes half the time.
    InTurn,
}

/// The environments, which a thread makes: one to build the wheel, one of the tests on each Python, one to check types.
pub(crate) struct Environments {
    /// Oldest first, with their names.
    pythons: Vec<(String, PathBuf)>,
    /// How making each of them ended, in that order. Taken in the end.
    made: Option<Receiver<Outcome>>,
    maker: Option<JoinHandle<()>>,
    top: Top,
}

impl Environments {
    /// Begins to make them.
    pub(crate) fn begin() -> Result<Environments, Outcome> {
        let pythons = pythons();
        let Some((_, newest)) = pythons.last().cloned() else {
            return Err(Outcome::Skipped(missing("python3 with venv, 3.9 or later")));
        };
        let top = Top::new().map_err(Outcome::Failed)?;
        let builder = Environment::builder(&top).make(newest.clone(), &["hatchling"], &[]);
        let mut all: Vec<Box<dyn FnOnce() -> Outcome + Send>> = vec![Box::new(builder)];
        for (name, python) in &pythons {
            all.push(Box::new(Environment::of(&top, name).make(python.clone(), &NEEDED, &WANTED)));
        }
        all.push(Box::new(Environment::types(&top).make(newest, &TYPES, &[])));
        let (to, made) = mpsc::channel();
        // Nobody waits for the others where a step has failed.
        let maker = thread::spawn(move || {
            let _ = all.into_iter().try_for_each(|make| to.send(make()));
        });
        Ok(Environments { pythons, made: Some(made), maker: Some(maker), top })
    }

    /// Waits for the next.
    fn next(&self) -> Outcome {
        let made = self.made.as_ref().and_then(|made| made.recv().ok());
        made.unwrap_or_else(|| Outcome::Failed("nobody makes it".to_owned()))
    }
}

impl Drop for Environments {
    fn drop(&mut self) {
        self.made = None;
        if let Some(maker) = self.maker.take() {
            // What it said is of no use any more.
            let _ = maker.join();
        }
    }
}

/// Builds the wheel, and runs every step on that.
pub(crate) fn all(
    place: &Place,
    report: &mut Report,
    drivers: Drivers,
    environments: Result<Environments, Outcome>,
) {
    let environments = match environments {
        Ok(environments) => environments,
        Err(outcome) => {
            report.step("Python package", || outcome);
            return;
        }
    };
    let (pythons, top) = (&environments.pythons, &environments.top);
    let builder = Environment::builder(top);
    if !report.step("environment to build the wheel", || environments.next()) || !builder.has("hatchling") {
        return;
    }
    let mut wheel = None;
    thread::scope(|scope| {
        let of_sdist = scope.spawn(|| build_sdist(place, &builder, top));
        report.step("wheel", || match build_wheel(place, &builder, top) {
            Ok(path) => {
                wheel = Some(path);
                Outcome::Ok
            }
            Err(reason) => Outcome::Failed(reason),
        });
        report.step("sdist, and the wheel out of it", || {
            of_sdist.join().unwrap_or_else(|_| Outcome::Failed("its thread panicked".to_owned()))
        });
    });
    let Some(wheel) = wheel else { return };
    report.step("plugin file of TLS", || build_tls(place, top).into());
    for (index, (name, _)) in pythons.iter().enumerate() {
        let backends = match drivers {
            Drivers::InTurn if index + 1 < pythons.len() => &BACKENDS[index % 2..][..1],
            Drivers::All | Drivers::InTurn => &BACKENDS[..],
        };
        test(place, report, &environments, name, (&wheel, backends));
    }
    report.step("figures of the documentation", || {
        let Some((newest, _)) = pythons.last() else { return environments.next() };
        let environment = Environment::of(top, newest);
        if !environment.has("uvloop") {
            return Outcome::Skipped("uvloop is not installed".to_owned());
        }
        // Whether they can be had is the question, not what they are.
        let mut figures = environment.python();
        figures.arg(place.root.join("python/benches/figures.py")).args(["0.1", "1"]);
        run(figures)
    });
    check_types(place, report, &environments, &wheel);
}

/// The Pythons at hand, oldest first, with their names: of pyenv, and on the path.
fn pythons() -> Vec<(String, PathBuf)> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let versions = root.map(|root| root.join("versions"));
    let mut installed: Vec<PathBuf> = versions
        .and_then(|versions| fs::read_dir(versions).ok())
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    installed.sort();
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for minor in MINORS {
        let of_pyenv = installed.iter().rev().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(minor).is_some_and(|rest| rest.starts_with('.'))
        });
        let candidates = of_pyenv
            .map(|path| path.join("bin/python"))
            .into_iter()
            .chain([PathBuf::from(format!("python{minor}"))]);
        found.extend(
            candidates.filter(|python| works(python, minor)).map(|it| (minor.to_owned(), it)).take(1),
        );
    }
    for pypy in ["pypy3"].map(PathBuf::from).into_iter().filter(|python| works(python, "")) {
        found.insert(0, ("PyPy".to_owned(), pypy));
    }
    if found.is_empty() && works(Path::new("python3"), "") {
        found.push(("3".to_owned(), PathBuf::from("python3")));
    }
    found
}

/// Whether it is of that version, can make environments, and is new enough.
fn works(python: &Path, minor: &str) -> bool {
    let code = "import ensurepip, sys, venv; assert sys.version_info >= (3, 9); print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(python).args(["-c", code]).output();
    output.is_ok_and(|output| {
        output.status.success()
            && (minor.is_empty() || String::from_utf8_lossy(&output.stdout).trim() == minor)
    })
}

/// A directory outside of the tree, removed in the end.
struct Top {
    path: PathBuf,
}

impl Top {
    fn new() -> Result<Top, String> {
        let path = std::env::temp_dir().join(format!("resay-python-{}", std::process::id()));
        remove(&path)?;
        fs::create_dir_all(&path).map_err(about(&path))?;
        Ok(Top { path })
    }

    /// The plugin files that tests find.
    fn plugins(&self) -> PathBuf {
        self.path.join("plugins")
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // What is left of it is in nobody's way.
        let _ = remove(&self.path);
    }
}

/// A virtual environment.
struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// In which the wheel is built.
    fn builder(top: &Top) -> Environment {
        Environment { directory: top.path.join("builder") }
    }

    /// In which types are checked.
    fn types(top: &Top) -> Environment {
        Environment { directory: top.path.join("types") }
    }

    /// That of the tests on one Python.
    fn of(top: &Top, name: &str) -> Environment {
        Environment { directory: top.path.join(format!("python-{name}")) }
    }

    fn python(&self) -> Command {
        let mut command = Command::new(self.directory.join("bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH").current_dir(&self.directory);
        command
    }

    /// Makes it, with packages that are needed and others. Skipped: those that are needed cannot be had.
    fn make(
        self,
        python: PathBuf,
        needed: &'static [&'static str],
        wanted: &'static [&'static str],
    ) -> impl FnOnce() -> Outcome + Send {
        move || {
            let mut command = Command::new(python);
            command.args(["-m", "venv"]).arg(&self.directory);
            if let Err(reason) = capture(command) {
                return Outcome::Failed(reason);
            }
            if self.install(&[needed, wanted].concat()).is_ok() {
                return Outcome::Ok;
            }
            if self.install(needed).is_err() {
                return Outcome::Skipped(format!("pip cannot install {}", needed.join(", ")));
            }
            for package in wanted {
                if self.install(&[package]).is_err() {
                    println!(
                        "{}: pip cannot install {package}; its tests skip themselves",
                        self.directory.display()
                    );
                }
            }
            Outcome::Ok
        }
    }

    fn install(&self, packages: &[impl AsRef<std::ffi::OsStr>]) -> Result<String, String> {
        let mut pip = self.python();
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"])
            .args(packages);
        capture(pip)
    }

    fn has(&self, module: &str) -> bool {
        let mut command = self.python();
        command.args(["-c", &format!("import {module}")]);
        command.output().is_ok_and(|output| output.status.success())
    }
}

/// Builds the wheel as it is published, and checks its size and that the licences of all that is in it are there.
fn build_wheel(place: &Place, builder: &Environment, top: &Top) -> Result<PathBuf, String> {
    let wheel = wheel_of(place, builder, &place.root.join("python"), &top.path.join("wheel"), "dist")?;
    let bytes = fs::metadata(&wheel).map_err(about(&wheel))?.len();
    println!("{}: {bytes} bytes", wheel.display());
    if bytes > WHEEL_BYTES_MAX {
        return Err(format!("the wheel has {bytes} bytes, more than {WHEEL_BYTES_MAX}"));
    }
    let mut list = builder.python();
    list.args(["-m", "zipfile", "-l"]).arg(&wheel);
    let list = capture(list)?;
    for text in ["LICENSE-APACHE", "LICENSE-MIT", NOTICES] {
        if !list.contains(&format!(".dist-info/licenses/{text} ")) {
            return Err(format!("the wheel lacks {text}"));
        }
    }
    Ok(wheel)
}

fn wheel_of(
    place: &Place,
    builder: &Environment,
    source: &Path,
    to: &Path,
    profile: &str,
) -> Result<PathBuf, String> {
    let mut pip = builder.python();
    pip.args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
    pip.arg(to).arg(source).env("CARGO_TARGET_DIR", place.target()?).env("RESAY_CARGO_PROFILE", profile);
    match run(pip) {
        Outcome::Ok => {}
        other => return Err(format!("pip wheel: {other:?}")),
    }
    files_in(to)?.pop().ok_or_else(|| "pip wheel has made nothing".to_owned())
}

/// An sdist has the sources of the engine; a wheel is built out of it as pip does.
fn build_sdist(place: &Place, builder: &Environment, top: &Top) -> Outcome {
    let steps = || {
        let directory = top.path.join("sdist");
        fs::create_dir_all(&directory).map_err(about(&directory))?;
        let mut command = builder.python();
        command.args(["-m", "hatchling", "build", "--target", "sdist", "--directory"]).arg(&directory);
        command.current_dir(place.root.join("python"));
        capture(command)?;
        let sdist = files_in(&directory)?.pop().ok_or("hatchling has made nothing")?;
        // Whether it builds is the question, not how fast it is: this profile takes a fraction of the time.
        wheel_of(place, builder, &sdist, &top.path.join("wheel-of-sdist"), "dev")
    };
    steps().into()
}

/// Puts the plugin file of TLS, which no wheel has, into a directory of its own: beside others, chains would find those too.
fn build_tls(place: &Place, top: &Top) -> Result<(), String> {
    // Whether Python finds and serves it is the question, not how fast it is.
    match run(place.cargo("build --package resay-tls-file")) {
        Outcome::Ok => {}
        other => return Err(format!("cargo build: {other:?}")),
    }
    let (built, plugins) = (place.target()?.join("debug/libtls.so"), top.plugins());
    fs::create_dir_all(&plugins).map_err(about(&plugins))?;
    fs::copy(&built, plugins.join("libtls.so")).map_err(about(&built)).map(drop)
}

/// The tests of the package on one Python.
fn test(
    place: &Place,
    report: &mut Report,
    environments: &Environments,
    name: &str,
    (wheel, backends): (&Path, &[&str]),
) {
    let environment = Environment::of(&environments.top, name);
    let mut ready = false;
    report.step(&format!("Python {name}: environment"), || {
        let made = environments.next();
        if made != Outcome::Ok {
            return made;
        }
        let mut pip = environment.python();
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]).arg(wheel);
        match capture(pip) {
            Ok(_) => {
                ready = true;
                Outcome::Ok
            }
            Err(reason) => Outcome::Failed(reason),
        }
    });
    if !ready {
        return;
    }
    for backend in backends {
        report.step(&format!("Python {name}: tests on {backend}"), || {
            if let (Some(why), "uring") = (uring_refusal(), *backend) {
                return Outcome::Skipped(why);
            }
            let tests = environment.directory.join("tests");
            // The pages whose blocks run lie where an sdist has them.
            let copied = copy(&place.root.join("python/tests"), &tests).and_then(|()| {
                let docs = environment.directory.join("rust/docs");
                fs::create_dir_all(&docs).map_err(about(&docs))?;
                for page in ["README.md", "docs/python.md"] {
                    let to = environment.directory.join("rust").join(page);
                    fs::copy(place.root.join(page), &to).map_err(about(&to))?;
                }
                Ok(())
            });
            if let Err(reason) = copied {
                return Outcome::Failed(reason);
            }
            let mut pytest = environment.python();
            // Where a test hangs is shown before the step is ended for it.
            pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=100"]);
            pytest.arg(format!("--resay-backend={backend}")).arg(&tests);
            if environment.has("xdist") {
                pytest.args(["-n", "2"]);
            }
            pytest.env("RESAY_PLUGIN_PATH", environments.top.plugins());
            run_tests(Runner::Pytest, pytest)
        });
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(about(to))?;
    for file in files_in(from)? {
        let name = file.file_name().unwrap_or_default();
        if file.is_file() {
            fs::copy(&file, to.join(name)).map_err(about(&file))?;
        }
    }
    Ok(())
}

/// The stubs: by mypy and pyright against the tests of users, by stubtest against the package itself.
fn check_types(place: &Place, report: &mut Report, environments: &Environments, wheel: &Path) {
    let environment = Environment::types(&environments.top);
    let mut ready = false;
    report.step("Python types: environment", || {
        let made = environments.next();
        let wheel = wheel.as_os_str();
        ready = made == Outcome::Ok && environment.install(&[wheel]).is_ok();
        made
    });
    if !ready {
        return;
    }
    let examples = place.root.join("python/tests/test_examples.py");
    let allowed = place.root.join("python/stubtest.txt");
    let checks: [(&str, &[&str], Option<&Path>); 3] = [
        ("mypy --strict", &["-m", "mypy", "--strict", "--cache-dir=/dev/null"], Some(&examples)),
        ("pyright", &["-m", "pyright", "--pythonpath", "bin/python"], Some(&examples)),
        (
            "stubtest",
            &[
                "-m",
                "mypy.stubtest",
                "resay",
                "--ignore-missing-stub",
                "--ignore-unused-allowlist",
                "--allowlist",
            ],
            Some(&allowed),
        ),
    ];
    for (name, arguments, file) in checks {
        report.step(&format!("Python types: {name}"), || {
            let mut command = environment.python();
            command.args(arguments);
            if let Some(file) = file {
                command.arg(file);
            }
            capture(command).into()
        });
    }
}
