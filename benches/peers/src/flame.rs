//! Where Resay's time goes: the stacks that perf(1) finds while it serves, drawn as a flame graph.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use resay_measure::escaped;

use crate::load;
use crate::peer::{Peer, Setting};
use crate::report::svg;
use crate::running::Running;
use crate::sys;
use crate::workload::Workload;

const WORKLOAD: &str = "tcp-50x64";
const SERVER: &str = "resay-epoll";
const SECONDS: u64 = 3;
const SLICE: Duration = Duration::from_millis(500);
/// A prime, so that nothing periodic is met again and again.
const SAMPLES_PER_S: &str = "1997";
const STACK: &str = "dwarf,8192";

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 16.0;
const TOP: f64 = 64.0;
const FRAME_HEIGHT: f64 = 18.0;
const LETTER_WIDTH: f64 = 6.1;
/// What takes less of all is not drawn.
const PART_MIN: f64 = 0.002;
const KERNEL: &str = "[kernel.kallsyms]";

/// A function and what it calls.
#[derive(Debug, Default)]
struct Frame {
    samples: u64,
    is_kernel: bool,
    calls: BTreeMap<String, Frame>,
}

/// The picture.
pub(crate) fn draw(setting: &Setting, core: usize, other_core: usize) -> Result<String, Box<dyn Error>> {
    let find = || Peer::ALL.iter().find(|peer| peer.name == SERVER);
    let workload = Workload::ALL.iter().find(|workload| workload.name == WORKLOAD);
    let (Some(peer), Some(workload)) = (find(), workload) else { return Err("nothing to look at".into()) };
    eprint!("\r{:60}", "flame graph");
    // perf is not to wait for the core that it looks at.
    sys::pin(other_core).or_else(|_| sys::pin(core))?;
    let running = Running::start(peer, setting, workload.kind, workload.message_bytes(), core)?;
    let data = setting.built.join("perf.data");
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "-e", "cpu-clock", "-F", SAMPLES_PER_S, "--call-graph", STACK])
        .args(["-p", &running.pid().to_string(), "-o"])
        .arg(&data)
        .args(["--", "sleep", &SECONDS.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("perf: {error}"))?;
    sys::pin(core)?;
    let status = loop {
        // As long as perf looks.
        if let Err(error) = load::run(workload, &running, false, Duration::ZERO, SLICE) {
            let _ = perf.kill();
            let _ = perf.wait();
            return Err(error);
        }
        if let Some(status) = perf.try_wait()? {
            break status;
        }
    };
    if !status.success() {
        return Err(format!("perf record: {status}").into());
    }
    let script =
        Command::new("perf").args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"]).arg(&data).output()?;
    let root = stacks(&String::from_utf8_lossy(&script.stdout));
    if root.samples == 0 {
        return Err("perf found no samples".into());
    }
    Ok(render(&root, &format!("{SERVER}, {}", workload.title())))
}

/// The stacks of `perf script`, each a run of lines `ADDRESS SYMBOL (FILE)`, innermost first, with an empty line behind.
fn stacks(script: &str) -> Frame {
    let mut root = Frame::default();
    for stack in script.split("\n\n") {
        let mut lines: Vec<(String, bool)> = stack.lines().filter_map(read_line).collect();
        lines.reverse();
        // What comes before main is the same for all.
        let begin = lines.iter().position(|(name, _)| name.contains("worker")).unwrap_or(0);
        if lines.is_empty() {
            continue;
        }
        root.samples += 1;
        let mut frame = &mut root;
        for (name, is_kernel) in lines.drain(begin..) {
            frame = frame.calls.entry(name).or_default();
            frame.samples += 1;
            frame.is_kernel = is_kernel;
        }
    }
    root
}

fn read_line(line: &str) -> Option<(String, bool)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (symbol, file) = rest.rsplit_once(" (")?;
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    let name = match symbol.rsplit_once("::h") {
        // The compiler's hash says nothing.
        Some((name, hash)) if hash.len() == 16 => name,
        _ => symbol,
    };
    Some((name.to_owned(), file.trim_end_matches(')') == KERNEL))
}

fn render(root: &Frame, what: &str) -> String {
    let depth = depth(root, root.samples);
    let height = TOP + depth as f64 * FRAME_HEIGHT + MARGIN;
    let note = "width: part of the samples; a box stands on what called it; green: the kernel";
    let title = format!("Where the processor time goes: {what}");
    let mut svg = svg::begin(&title, note, WIDTH, height);
    svg.push_str("  <style>.box { fill: #54aeff; stroke: #ffffff; } .kernel { fill: #6fdd8b; } .name { font-size: 11px; fill: #1f2328; }\n    ");
    svg.push_str("@media (prefers-color-scheme: dark) { .box { stroke: #0d1117; } .name { fill: #0d1117; } }</style>\n");
    let _ = writeln!(svg, "  <text class=\"title\" x=\"{MARGIN}\" y=\"30\">{}</text>", escaped(&title));
    let _ = writeln!(
        svg,
        "  <text class=\"small\" x=\"{MARGIN}\" y=\"50\">{} samples; {note}</text>",
        root.samples
    );
    let room = WIDTH - 2.0 * MARGIN;
    let mut x = MARGIN;
    for (name, frame) in &root.calls {
        boxes(
            &mut svg,
            name,
            frame,
            x,
            height - MARGIN - FRAME_HEIGHT,
            room / root.samples as f64,
            root.samples,
        );
        x += frame.samples as f64 * room / root.samples as f64;
    }
    svg + "</svg>\n"
}

fn boxes(svg: &mut String, name: &str, frame: &Frame, x: f64, y: f64, unit: f64, all: u64) {
    let part = frame.samples as f64 / all as f64;
    if part < PART_MIN {
        return;
    }
    let width = frame.samples as f64 * unit;
    let class = if frame.is_kernel { "box kernel" } else { "box" };
    let name_shown = escaped(name);
    let _ = writeln!(
        svg,
        "  <g><title>{name_shown}: {:.1} %</title><rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" \
         height=\"{}\" rx=\"1\"/>",
        part * 100.0,
        FRAME_HEIGHT - 1.0
    );
    let letters = ((width - 6.0) / LETTER_WIDTH) as usize;
    if letters >= 3 {
        let short = shortened(name, letters);
        let _ = writeln!(
            svg,
            "  <text class=\"name\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x + 3.0,
            y + 12.5,
            escaped(&short)
        );
    }
    svg.push_str("  </g>\n");
    let mut x = x;
    for (name, call) in &frame.calls {
        boxes(svg, name, call, x, y - FRAME_HEIGHT, unit, all);
        x += call.samples as f64 * unit;
    }
}

fn depth(frame: &Frame, all: u64) -> usize {
    let calls = frame.calls.values().filter(|call| call.samples as f64 / all as f64 >= PART_MIN);
    calls.map(|call| 1 + depth(call, all)).max().unwrap_or(0)
}

/// The end of a path says most; what does not fit is cut.
fn shortened(name: &str, letters: usize) -> String {
    let path = name.split('<').next().unwrap_or(name);
    let name = if path.is_empty() || name.len() <= letters {
        name
    } else {
        path.rsplit("::").next().unwrap_or(path)
    };
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let cut: String = name.chars().take(letters.saturating_sub(1)).collect();
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "
\tffffffff81 tcp_sendmsg+0x12 ([kernel.kallsyms])
\t    7f00 send (/usr/lib/libc.so.6)
\t    5501 resay::worker::turn::h0123456789abcdef (/target/peers)
\t    5500 main (/target/peers)

\t    5502 resay::worker::turn::h0123456789abcdef (/target/peers)
\t    5500 main (/target/peers)

";

    #[test]
    fn stacks_are_added_up_from_the_worker_on() {
        let root = stacks(SCRIPT);
        assert_eq!(root.samples, 2);
        let turn = &root.calls["resay::worker::turn"];
        assert_eq!((turn.samples, turn.is_kernel), (2, false));
        let send = &turn.calls["send"];
        assert!(send.calls["tcp_sendmsg"].is_kernel);
        assert_eq!(depth(&root, 2), 3);
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("resay::worker::turn", 40), "resay::worker::turn");
        assert_eq!(shortened("resay::worker::turn", 8), "turn");
        assert_eq!(shortened("resay::worker::turn_around", 5), "turn…");
    }
}
