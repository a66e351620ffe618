//! A server under callgrind, and what callgrind writes: https://valgrind.org/docs/manual/cl-format.html.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::load::{LONGER, Place, Workload};
use crate::result::Result;
use crate::sys;

/// valgrind's version, where it is installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.trim().trim_start_matches("valgrind-").to_owned())
}

/// What two runs of different length have cost.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) shorter: PathBuf,
    pub(crate) longer: PathBuf,
    instructions: f64,
    messages: f64,
}

impl Counts {
    /// Runs a server twice. `start` gives the command for a place. Counts go into a directory that stays.
    pub(crate) fn take(
        workload: &Workload,
        uppercase: bool,
        name: &str,
        (directory, scratch): (&Path, &Path),
        start: &dyn Fn(&Place) -> Result<Command>,
    ) -> Result<Counts> {
        let run = |times: usize| -> Result<(PathBuf, u64)> {
            let path = directory.join(format!("{name}-{}-{times}.callgrind", workload.name));
            let place = free_place(workload, scratch)?;
            let running = Running::start(&start(&place)?, &path)?;
            let outcome = workload.drive(&place, running.child.id(), times, uppercase);
            let said = running.end()?;
            outcome.map_err(|error| format!("{name}, {}: {error}\n{said}", workload.name))?;
            let total =
                total(&fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?);
            let total = total.ok_or_else(|| format!("{}: no sum of instructions\n{said}", path.display()))?;
            Ok((path, total))
        };
        let ((shorter, less), (longer, more)) = (run(1)?, run(LONGER)?);
        let instructions = more.saturating_sub(less) as f64;
        Ok(Counts { shorter, longer, instructions, messages: workload.messages_between() })
    }

    pub(crate) fn a_message(&self) -> f64 {
        self.instructions / self.messages
    }
}

/// Nobody has it yet. Should somebody take the port before the server does, the server says so, and nothing is measured.
fn free_place(workload: &Workload, scratch: &Path) -> Result<Place> {
    use crate::load::Kind;
    Ok(match workload.kind {
        Kind::Tcp => Place::Port(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()),
        Kind::Udp => Place::Port(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port()),
        Kind::Unix => {
            let path = scratch.join("s");
            let _ = fs::remove_file(&path);
            Place::Path(path)
        }
    })
}

/// A server under callgrind, killed and reaped when this is dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(server: &Command, output: &Path) -> Result<Running> {
        let _ = fs::remove_file(output);
        let log = output.with_extension("log");
        let file = File::create(&log)?;
        let child = Command::new("valgrind")
            .args(["-q", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", output.display()))
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("valgrind: {error}"))?;
        let running = Running { child, log };
        sys::make_batch_process(running.child.id())?;
        Ok(running)
    }

    /// Ends it, and gives what it printed. The signal that ends it makes callgrind write its counts.
    fn end(mut self) -> Result<String> {
        sys::terminate(self.child.id())?;
        self.child.wait()?;
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn total(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Instructions of one run, by function and by source line.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Own instructions, and those of what it calls.
    pub(crate) functions: HashMap<String, Cost>,
    /// By file and line; what was inlined counts where its source stands.
    pub(crate) lines: HashMap<(String, u64), f64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) own: f64,
    pub(crate) inclusive: f64,
    pub(crate) calls: f64,
}

impl Tree {
    pub(crate) fn read(path: &Path) -> Result<Tree> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut tree = Tree::default();
        let mut names = Names::default();
        let (mut function, mut file, mut object) = (String::new(), String::new(), String::new());
        let mut called = String::new();
        let mut line_number = 0_u64;
        let mut is_call = false;
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "ob" => object = names.of("ob", value),
                    "fl" | "fi" | "fe" => file = names.of("fl", value),
                    "fn" => function = in_object(&names.of("fn", value), &object),
                    "cob" => drop(names.of("ob", value)),
                    "cfi" | "cfl" => drop(names.of("fl", value)),
                    "cfn" => called = names.of("fn", value),
                    "calls" => {
                        is_call = true;
                        let times = value.split_whitespace().next().and_then(|count| count.parse().ok());
                        names.count_calls(&called, times.unwrap_or(0.0));
                    }
                    _ => {}
                }
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(position), Some(cost)) = (words.next(), words.next()) else { continue };
            let Some(number) = position_after(position, line_number) else { continue };
            let Ok(cost) = cost.parse::<f64>() else { continue };
            line_number = number;
            let entry = tree.functions.entry(function.clone()).or_default();
            entry.inclusive += cost;
            if std::mem::take(&mut is_call) {
                continue;
            }
            entry.own += cost;
            *tree.lines.entry((file.clone(), number)).or_default() += cost;
        }
        for (name, cost) in &mut tree.functions {
            let bare = name.split("  [").next().unwrap_or(name);
            cost.calls = names.calls.get(bare).copied().unwrap_or(0.0);
        }
        Ok(tree)
    }
}

/// Lines are absolute, or relative to the one before, or the same.
fn position_after(text: &str, before: u64) -> Option<u64> {
    match text.as_bytes().first()? {
        b'+' => Some(before + text[1..].parse::<u64>().ok()?),
        b'-' => before.checked_sub(text[1..].parse().ok()?),
        b'*' => Some(before),
        _ => text.parse().ok(),
    }
}

fn in_object(function: &str, object: &str) -> String {
    let library = Path::new(object).file_name().unwrap_or_default().to_string_lossy();
    if library.contains(".so") { format!("{function}  [{library}]") } else { function.to_owned() }
}

/// A name is written out once, `(12) name`, and is `(12)` from then on.
#[derive(Debug, Default)]
struct Names {
    known: HashMap<(&'static str, String), String>,
    calls: HashMap<String, f64>,
}

impl Names {
    fn of(&mut self, kind: &'static str, text: &str) -> String {
        let Some((number, name)) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return text.to_owned();
        };
        let key = (kind, number.to_owned());
        if !name.is_empty() {
            self.known.insert(key.clone(), name.trim_start().to_owned());
        }
        self.known.get(&key).cloned().unwrap_or_default()
    }

    fn count_calls(&mut self, function: &str, times: f64) {
        *self.calls.entry(function.to_owned()).or_default() += times;
    }
}
