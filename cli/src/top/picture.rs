//! docs/top.svg: the screen as a picture, drawn by the test below, which fails where the file is out of date.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::{Color, Modifier};
use resay_plugin::environment;

use super::tests::{app, drawn};

const PICTURE: &str = "docs/top.svg";
const WIDTH: u16 = 108;
const HEIGHT: u16 = 24;
const FONT_SIZE: usize = 14;
const LINE_HEIGHT: usize = 19;
/// Of a letter, in hundredths of a pixel: each run of letters is stretched to it, whatever font there is.
const LETTER_WIDTH: usize = 843;
const MARGIN: usize = 14;

const STYLE: &str = "
    .window { fill: #0d1117; stroke: #30363d; }
    .back { fill: #e6edf3; }
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre; }
    .dim { fill: #8b949e; }
    .bold { font-weight: bold; }
    .green { fill: #3fb950; }
    .red { fill: #ff7b72; }
    .cyan { fill: #79c0ff; }
    .yellow { fill: #d29922; }
    .reversed { fill: #0d1117; }
  ";

#[test]
fn the_picture_is_what_the_screen_shows() {
    let mut app = app();
    app.key(KeyEvent::from(KeyCode::Down));
    let picture = svg(&drawn(&app, WIDTH, HEIGHT));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PICTURE);
    if environment::variable("RESAY_BLESS").is_some() {
        fs::write(&path, &picture).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let again = "RESAY_BLESS=1 cargo test -p resay-cli --bin resay picture";
    assert!(committed == picture, "{PICTURE} is out of date; `{again}` writes it anew");
}

fn svg(buffer: &Buffer) -> String {
    let (width, height) = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let (w, h) = (pixels(width) + 2 * MARGIN, height * LINE_HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
         aria-labelledby=\"title\">\n  <title id=\"title\">resay top</title>\n  <style>{STYLE}</style>\n  \
         <rect class=\"window\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        w - 1,
        h - 1
    );
    for (line, cells) in buffer.content().chunks(width).enumerate() {
        let y = MARGIN + line * LINE_HEIGHT;
        let mut column = 0;
        for run in cells.chunk_by(|a, b| class(a) == class(b)) {
            draw_run(&mut svg, run, column, y);
            column += run.len();
        }
    }
    svg + "</svg>\n"
}

fn draw_run(svg: &mut String, run: &[Cell], column: usize, y: usize) {
    let class = class(&run[0]);
    let text: String = run.iter().map(Cell::symbol).collect();
    let (x, width) = (MARGIN + pixels(column), pixels(run.len()));
    if class.contains("reversed") {
        let _ = writeln!(
            svg,
            "  <rect class=\"back\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{LINE_HEIGHT}\"/>"
        );
    }
    let shown = text.trim();
    if shown.is_empty() {
        return;
    }
    let before = text.chars().take_while(|letter| *letter == ' ').count();
    let (x, width) = (MARGIN + pixels(column + before), pixels(shown.chars().count()));
    let class = if class.is_empty() { class } else { format!(" class=\"{class}\"") };
    let shown = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let y = y + FONT_SIZE;
    let _ = writeln!(
        svg,
        "  <text{class} x=\"{x}\" y=\"{y}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\">{shown}</text>"
    );
}

fn pixels(columns: usize) -> usize {
    columns * LETTER_WIDTH / 100
}

fn class(cell: &Cell) -> String {
    let has = |modifier| cell.modifier.contains(modifier);
    let color = match cell.fg {
        Color::Green => "green",
        Color::Red => "red",
        Color::Cyan => "cyan",
        Color::Yellow => "yellow",
        _ => "",
    };
    let classes = [
        color,
        if has(Modifier::BOLD) { "bold" } else { "" },
        if has(Modifier::DIM) { "dim" } else { "" },
        if has(Modifier::REVERSED) { "reversed" } else { "" },
    ];
    classes.into_iter().filter(|class| !class.is_empty()).collect::<Vec<_>>().join(" ")
}
