//! Pictures that can be read on light and dark pages: panels of bars, and a stack of boxes.

use std::fmt::Write as _;

use resay_measure::escaped;

use crate::peer::Family;

const COLUMN_WIDTH: f64 = 336.0;
const COLUMN_GAP: f64 = 20.0;
const MARGIN: f64 = 16.0;
const TITLE_HEIGHT: f64 = 30.0;
const TITLE_LETTER_WIDTH: f64 = 9.0;
const PANEL_TITLE_HEIGHT: f64 = 26.0;
const PANEL_GAP: f64 = 18.0;
const ROW_HEIGHT: f64 = 17.0;
const LABEL_WIDTH: f64 = 130.0;
const VALUE_WIDTH: f64 = 90.0;
const LEGEND_HEIGHT: f64 = 24.0;
/// A bar longer than so many times the shortest is cut, so that the short ones can be told apart.
const CUT: f64 = 4.0;

const STYLE: &str = "
    .ground { fill: #ffffff; stroke: #d0d7de; }
    .line { stroke: #d0d7de; }
    .resay { fill: #0969da; }
    .hand { fill: #1a7f37; }
    .other { fill: #8c959f; }
    .cut { fill: #ffffff; }
    text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328; }
    .title { font-size: 15px; font-weight: 600; }
    .head { font-weight: 600; }
    .small { fill: #57606a; }
    .end { text-anchor: end; }
    .mine { font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117; stroke: #30363d; }
      .line { stroke: #30363d; }
      .resay { fill: #58a6ff; }
      .hand { fill: #3fb950; }
      .other { fill: #6e7681; }
      .cut { fill: #0d1117; }
      text { fill: #e6edf3; }
      .small { fill: #9da7b3; }
    }
";

/// Bars with a title, shortest first.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero; long bars are cut.
    Linear,
    /// By powers of ten; a bar goes from its value to its far end.
    Log,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) family: Family,
    pub(crate) value: f64,
    /// Where a range ends.
    pub(crate) far: f64,
    /// What is written beside it.
    pub(crate) text: String,
}

/// A picture of panels, `columns` side by side.
pub(crate) fn panels(title: &str, note: &str, columns: usize, mut all: Vec<Panel>) -> String {
    for panel in &mut all {
        panel.bars.sort_by(|a, b| a.value.total_cmp(&b.value));
    }
    let columns = columns.min(all.len()).max(1);
    let columns_width = columns as f64 * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP;
    let width = 2.0 * MARGIN + columns_width.max(title.len() as f64 * TITLE_LETTER_WIDTH);
    let mut body = String::new();
    let mut y = MARGIN + TITLE_HEIGHT + LEGEND_HEIGHT;
    for row in all.chunks(columns) {
        for (column, panel) in row.iter().enumerate() {
            let x = MARGIN + column as f64 * (COLUMN_WIDTH + COLUMN_GAP);
            draw_panel(&mut body, x, y, panel);
        }
        let rows = row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        y += PANEL_TITLE_HEIGHT + rows as f64 * ROW_HEIGHT + PANEL_GAP;
    }
    let mut svg = begin(title, note, width, y);
    let _ = writeln!(svg, "  <text class=\"title\" x=\"{MARGIN}\" y=\"30\">{}</text>", escaped(title));
    let mut x = MARGIN;
    for (class, what) in [("resay", "Resay"), ("hand", "by hand"), ("other", "other people's")] {
        let _ = writeln!(
            svg,
            "  <rect class=\"{class}\" x=\"{x}\" y=\"44\" width=\"12\" height=\"12\" rx=\"2\"/>"
        );
        let _ = writeln!(svg, "  <text x=\"{}\" y=\"54\">{what}</text>", x + 18.0);
        x += 40.0 + 6.5 * what.len() as f64;
    }
    let _ = writeln!(svg, "  <text class=\"small\" x=\"{x}\" y=\"54\">{}</text>", escaped(note));
    svg + &body + "</svg>\n"
}

fn draw_panel(body: &mut String, x: f64, y: f64, panel: &Panel) {
    let room = COLUMN_WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let values = || panel.bars.iter().map(|bar| bar.value);
    let least = values().fold(f64::INFINITY, f64::min).max(1e-9);
    let most = panel.bars.iter().map(|bar| bar.far).fold(0.0, f64::max);
    // Writing to a String cannot fail.
    let _ = writeln!(
        body,
        "  <text class=\"head\" x=\"{x}\" y=\"{}\">{}</text>",
        y + 12.0,
        escaped(&panel.title)
    );
    let left = x + LABEL_WIDTH;
    let bottom = y + PANEL_TITLE_HEIGHT + panel.bars.len() as f64 * ROW_HEIGHT;
    let _ = writeln!(
        body,
        "  <line class=\"line\" x1=\"{left}\" y1=\"{}\" x2=\"{left}\" y2=\"{bottom}\"/>",
        y + PANEL_TITLE_HEIGHT - 4.0
    );
    for (row, bar) in panel.bars.iter().enumerate() {
        let top = y + PANEL_TITLE_HEIGHT + row as f64 * ROW_HEIGHT;
        let (class, emphasis) = match bar.family {
            Family::Resay => ("resay", " mine"),
            Family::ByHand => ("hand", ""),
            Family::Community => ("other", ""),
        };
        let (from, to, is_cut) = match panel.scale {
            Scale::Linear => {
                let end = most.min(CUT * least);
                (0.0, bar.value.min(end) / end, bar.value > end)
            }
            Scale::Log => {
                let low = (least / 1.5).log10();
                let span = ((most * 1.1).log10() - low).max(1e-9);
                let place = |value: f64| ((value.max(least).log10() - low) / span).clamp(0.0, 1.0);
                if bar.far > bar.value {
                    (place(bar.value), place(bar.far), false)
                } else {
                    (0.0, place(bar.value), false)
                }
            }
        };
        let length = ((to - from) * room).max(2.0);
        let begin = left + from * room;
        let baseline = top + 10.5;
        let _ = writeln!(
            body,
            "  <text class=\"end{emphasis}\" x=\"{}\" y=\"{baseline}\">{}</text>\
             <rect class=\"{class}\" x=\"{begin:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"13\" rx=\"2\"/>",
            left - 6.0,
            escaped(&bar.label),
        );
        if is_cut {
            let at = begin + length - 12.0;
            let _ = writeln!(body, "  <path class=\"cut\" d=\"M{at:.1} {top} l4 0 l-3 13 l-4 0 z\"/>",);
        }
        let _ = writeln!(
            body,
            "  <text class=\"small\" x=\"{:.1}\" y=\"{baseline}\">{}</text>",
            begin + length + 5.0,
            escaped(&bar.text)
        );
    }
}

pub(crate) fn begin(title: &str, description: &str, width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n  \
         <title id=\"title\">{}</title>\n  <desc id=\"desc\">{}</desc>\n  <style>{STYLE}  </style>\n  \
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        escaped(title),
        escaped(description),
        width - 1.0,
        height - 1.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.to_owned(), family: Family::Resay, value, far: value, text: format!("{value}") }
    }

    #[test]
    fn bars_stand_in_order_and_long_ones_are_cut() {
        let bars = vec![bar("slow", 100.0), bar("a<b", 1.0)];
        let svg = panels("t", "n", 2, vec![Panel { title: "p".to_owned(), bars, scale: Scale::Linear }]);
        assert!(svg.find("a&lt;b").unwrap() < svg.find("slow").unwrap());
        assert_eq!(svg.matches("class=\"cut\"").count(), 1);
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
