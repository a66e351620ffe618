//! The picture of a terminal in README.md: commands that really run, and what they print, drawn as SVG.
//!
//! The server listens on a port that the system chooses. The picture shows [`SHOWN_PORT`] instead, so each run draws
//! the same file, and `cargo xtask test` can compare it with the committed one.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::patience::{self, Work};
use crate::place::Place;
use crate::report::{Outcome, capture};

/// Where the picture is, below the workspace.
const PICTURE: &str = "docs/terminal.svg";
const SHOWN_PORT: &str = "8888";
/// The server's arguments as they are drawn. It runs with port 0.
const SERVER: &str = "serve -q tcp://127.0.0.1:8888 unix:e.sock -t uppercase --control e.ctl";
const LISTENERS: usize = 2;
/// What is typed while it runs; the last command ends it.
const CLIENTS: [&str; 4] = [
    "echo hello | resay send tcp://127.0.0.1:8888",
    "resay ctl e.ctl chain unix:e.sock 'uppercase | prefix:text=\"> \"'",
    "echo hello | resay send unix:e.sock",
    "resay ctl e.ctl drain",
];

const FONT_SIZE: usize = 14;
const LINE_HEIGHT: usize = 21;
/// Of a letter in a monospaced font, in hundredths of the font's size.
const LETTER_WIDTH_PERCENT: usize = 61;
const MARGIN: usize = 20;
const BAR_HEIGHT: usize = 30;

const STYLE: &str = "
    .window { fill: #0d1117; stroke: #30363d; }
    .bar { fill: #30363d; }
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre; }
    .prompt { fill: #3fb950; }
    .typed { fill: #79c0ff; }
  ";

/// Runs the commands and writes the picture.
pub(crate) fn write(place: &Place) -> Result<PathBuf, String> {
    capture(place.cargo("build --quiet --package resay-cli"))?;
    let path = place.root.join(PICTURE);
    fs::write(&path, draw(&record(place)?)).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Runs the commands of a command that is built already, and compares.
pub(crate) fn compare(place: &Place) -> Outcome {
    match (record(place), fs::read_to_string(place.root.join(PICTURE))) {
        (Ok(lines), Ok(committed)) if draw(&lines) == committed => Outcome::Ok,
        (Ok(_), Ok(_)) => Outcome::Failed(format!(
            "{PICTURE} is not what these commands print now; `cargo xtask transcript` writes it anew"
        )),
        (Ok(_), Err(error)) => Outcome::Failed(format!("{PICTURE}: {error}")),
        (Err(reason), _) => Outcome::Failed(reason),
    }
}

/// A line of the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Typed(String),
    Printed(String),
}

fn record(place: &Place) -> Result<Vec<Line>, String> {
    let directory = place.target()?.join("transcript");
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut lines = vec![Line::Typed(format!("resay {SERVER} &"))];
    let mut server = Server::start(place, &directory)?;
    let (listening, port) = server.listening()?;
    lines.extend(listening.iter().map(|line| Line::Printed(with_shown_port(line, &port))));
    for typed in CLIENTS {
        lines.push(Line::Typed(typed.to_owned()));
        let mut shell = Command::new("sh");
        shell.args(["-c", &with_real_port(typed, &port)]).current_dir(&directory).env("PATH", path(place)?);
        let printed = capture(shell)?;
        lines.extend(printed.lines().map(|line| Line::Printed(with_shown_port(line, &port))));
    }
    server.ended()?;
    Ok(lines)
}

/// `PATH` with the command that was built first.
fn path(place: &Place) -> Result<std::ffi::OsString, String> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(place.built.clone()).chain(std::env::split_paths(&old));
    std::env::join_paths(directories).map_err(|error| error.to_string())
}

fn with_real_port(typed: &str, port: &str) -> String {
    typed.replace(&format!(":{SHOWN_PORT}"), &format!(":{port}"))
}

fn with_shown_port(printed: &str, port: &str) -> String {
    printed.replace(&format!(":{port}"), &format!(":{SHOWN_PORT}"))
}

/// The server of the transcript; dropping it ends it.
struct Server(Child);

impl Server {
    fn start(place: &Place, directory: &Path) -> Result<Server, String> {
        let arguments = with_real_port(SERVER, "0");
        let mut command = Command::new(place.built.join("resay"));
        command.args(arguments.split(' ')).current_dir(directory);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        spawned.map(Server).map_err(|error| format!("resay serve: {error}"))
    }

    /// What it prints when its listeners are open, and its port. It closes its output if it cannot open them.
    fn listening(&mut self) -> Result<(Vec<String>, String), String> {
        let stdout = self.0.stdout.take().ok_or("the server has no standard output")?;
        let lines = BufReader::new(stdout).lines().take(LISTENERS).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|error| format!("resay serve: {error}"))?;
        let port = lines.first().and_then(|line| line.rsplit_once(':')).map(|(_, port)| port.to_owned());
        match port {
            Some(port) if lines.len() == LISTENERS => Ok((lines, port)),
            _ => Err("resay serve: it does not listen".to_owned()),
        }
    }

    fn ended(mut self) -> Result<(), String> {
        let status = patience::wait(&mut self.0, Work::Example).map_err(|error| error.to_string())??;
        if status.success() { Ok(()) } else { Err(format!("resay serve: {status}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails where the server has ended by itself, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn draw(lines: &[Line]) -> String {
    let letters = lines.iter().map(|line| text(line).chars().count()).max().unwrap_or(0);
    let width = 2 * MARGIN + letters * FONT_SIZE * LETTER_WIDTH_PERCENT / 100;
    let height = BAR_HEIGHT + MARGIN + lines.len() * LINE_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n  \
         <title id=\"title\">A terminal with resay</title>\n  <desc id=\"desc\">"
    );
    for line in lines {
        svg += &escape(&text(line));
        svg.push('\n');
    }
    let _ = write!(
        svg,
        "</desc>\n  <style>{STYLE}</style>\n  <rect class=\"window\" x=\"0.5\" y=\"0.5\" width=\"{}\" \
         height=\"{}\" rx=\"8\"/>\n",
        width - 1,
        height - 1
    );
    for place in 0..3 {
        let _ = writeln!(svg, "  <circle class=\"bar\" cx=\"{}\" cy=\"17\" r=\"5\"/>", MARGIN + place * 18);
    }
    for (number, line) in lines.iter().enumerate() {
        let y = BAR_HEIGHT + FONT_SIZE + number * LINE_HEIGHT;
        let _ = write!(svg, "  <text x=\"{MARGIN}\" y=\"{y}\">");
        let _ = match line {
            Line::Printed(printed) => write!(svg, "{}", escape(printed)),
            Line::Typed(typed) => {
                write!(
                    svg,
                    "<tspan class=\"prompt\">$ </tspan><tspan class=\"typed\">{}</tspan>",
                    escape(typed)
                )
            }
        };
        svg += "</text>\n";
    }
    svg += "</svg>\n";
    svg
}

fn text(line: &Line) -> String {
    match line {
        Line::Typed(typed) => format!("$ {typed}"),
        Line::Printed(printed) => printed.clone(),
    }
}

/// A text as XML wants it between tags.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_was_chosen_is_not_drawn() {
        assert_eq!(with_real_port(CLIENTS[0], "40001"), "echo hello | resay send tcp://127.0.0.1:40001");
        assert_eq!(
            with_shown_port("listening tcp://127.0.0.1:40001", "40001"),
            "listening tcp://127.0.0.1:8888"
        );
    }

    #[test]
    fn a_picture_has_each_line_once_and_no_bare_brackets() {
        let svg = draw(&[Line::Typed("echo 'a<b' &".to_owned()), Line::Printed("> HELLO".to_owned())]);
        let drawn: Vec<_> = svg.lines().filter(|line| line.contains("<text ")).collect();
        assert_eq!(drawn.len(), 2);
        assert!(drawn[0].contains("echo 'a&lt;b' &amp;</tspan>"), "{}", drawn[0]);
        assert!(drawn[1].ends_with("&gt; HELLO</text>"), "{}", drawn[1]);
    }
}
