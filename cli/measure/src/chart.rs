//! Charts as inline SVG, drawn here so that a page needs nothing from elsewhere. Colours are the page's: classes `s1` and
//! `s2` are series, `grid`, `tick` and `label` what is around them.

use std::fmt::Write;

use crate::{escaped, numbers};

/// How numbers become places on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal steps have equal room.
    Linear,
    /// For numbers above 0.
    Log,
    /// Percentiles, so that each nine has as much room as the one before: 0, 90, 99, 99.9 (as HdrHistogram's plots).
    Nines,
}

/// One axis, and its numbers' meaning.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// How numbers become places.
    pub scale: Scale,
    /// The least number.
    pub from: f64,
    /// The largest one.
    pub to: f64,
    /// What stands beside it.
    pub label: &'static str,
    /// A number as it is written at the axis.
    pub text: fn(f64) -> String,
}

/// Points that belong together.
#[derive(Debug)]
pub struct Series {
    /// In the legend.
    pub name: &'static str,
    /// Their places on both axes.
    pub points: Vec<(f64, f64)>,
    /// Said of each point, for whoever rests on it.
    pub told: Vec<String>,
}

/// Bars that stand side by side: from, to, height, and what is told.
pub type Bar = (f64, f64, f64, String);

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Ticks of an axis, about.
const TICKS: f64 = 6.0;

impl Axis {
    /// An axis from 0 on.
    pub fn linear(to: f64, label: &'static str, text: fn(f64) -> String) -> Axis {
        let to = if to > 0.0 { to } else { 1.0 };
        let step = step_of(to);
        Axis { scale: Scale::Linear, from: 0.0, to: (to / step).ceil() * step, label, text }
    }

    /// An axis that shows all of these, one scale finer than the other if they are far apart.
    pub fn fitting(least: f64, most: f64, label: &'static str, text: fn(f64) -> String) -> Axis {
        if least > 0.0 && most / least > FAR_APART {
            let from = 10f64.powf(least.log10().floor());
            // Up to the next of 1, 2 and 5.
            let decade = 10f64.powf(most.log10().floor());
            let to = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * decade).find(|&to| to >= most);
            Axis { scale: Scale::Log, from, to: to.unwrap_or(most), label, text }
        } else {
            Axis::linear(most, label, text)
        }
    }

    /// Where on the axis a number is, from 0 to 1.
    fn place(&self, number: f64) -> f64 {
        let on = |number: f64| match self.scale {
            Scale::Linear => number,
            Scale::Log => number.max(self.from).log10(),
            Scale::Nines => nines(number),
        };
        let (from, to) = (on(self.from), on(self.to));
        ((on(number) - from) / (to - from).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step_of(self.to - self.from);
                let count = ((self.to - self.from) / step + 1e-9) as usize;
                (0..=count).map(|tick| self.from + tick as f64 * step).collect()
            }
            Scale::Log => {
                let decades = (self.to / self.from).log10();
                let digits: &[f64] = if decades > CLOSE_DECADES { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let first = self.from.log10().floor() as i32;
                let last = self.to.log10().ceil() as i32;
                let all = (first..=last)
                    .flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
                let near = 1.0 + 1e-9;
                all.filter(|&tick| tick * near >= self.from && tick <= self.to * near).collect()
            }
            Scale::Nines => {
                let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.99999];
                // Where there are many nines, 50 is too close to 0.
                let has_room = |tick: f64| tick != 50.0 || nines(self.to) < CLOSE_NINES;
                all.into_iter().filter(|&tick| tick <= self.to && has_room(tick)).collect()
            }
        }
    }
}

/// Numbers that are further apart than this are put on a logarithmic axis.
const FAR_APART: f64 = 12.0;

/// A logarithmic axis of more decades, and one of more nines, has ticks at whole ones only.
const CLOSE_DECADES: f64 = 2.2;
const CLOSE_NINES: f64 = 3.5;

fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// The next of 1, 2 and 5 times a power of ten that makes about [`TICKS`] steps.
fn step_of(range: f64) -> f64 {
    let rough = range / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= rough * 0.999).unwrap_or(10.0);
    digit * power
}

fn x_of(axis: &Axis, number: f64) -> f64 {
    LEFT + axis.place(number) * (WIDTH - LEFT - RIGHT)
}

fn y_of(axis: &Axis, number: f64) -> f64 {
    HEIGHT - BOTTOM - axis.place(number) * (HEIGHT - TOP - BOTTOM)
}

/// Lines over one pair of axes. `is_filled`: the room below the first is shaded.
pub fn lines(name: &str, x: &Axis, y: &Axis, series: &[Series], is_filled: bool) -> String {
    let mut svg = frame(name, x, y);
    for (number, series) in series.iter().enumerate() {
        let class = number + 1;
        let place = |point: &(f64, f64)| format!("{:.1},{:.1}", x_of(x, point.0), y_of(y, point.1));
        let path: Vec<String> = series.points.iter().map(place).collect();
        // Writing to a String does not fail, here and below.
        if is_filled
            && number == 0
            && let (Some(first), Some(last)) = (series.points.first(), series.points.last())
        {
            let floor = HEIGHT - BOTTOM;
            let (from, to) = (x_of(x, first.0), x_of(x, last.0));
            let _ = write!(
                svg,
                "<path class=\"a{class}\" d=\"M{from:.1},{floor} L{} L{to:.1},{floor} Z\"/>",
                path.join(" L")
            );
        }
        let _ = write!(svg, "<polyline class=\"l{class}\" points=\"{}\"/>", path.join(" "));
        for (point, told) in series.points.iter().zip(&series.told) {
            let (x, y) = (x_of(x, point.0), y_of(y, point.1));
            let _ = write!(
                svg,
                "<g class=\"p{class}\"><circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/><circle \
                 class=\"hit\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"9\"><title>{}</title></circle></g>",
                escaped(told)
            );
        }
    }
    svg + "</svg>" + &legend(series)
}

/// Bars over one pair of axes.
pub fn bars(name: &str, x: &Axis, y: &Axis, bars: &[Bar]) -> String {
    let mut svg = frame(name, x, y);
    for (from, to, height, told) in bars.iter().filter(|bar| bar.2 > 0.0) {
        let (left, right) = (x_of(x, *from), x_of(x, *to));
        // The least bar can be seen too.
        let top = y_of(y, *height).min(HEIGHT - BOTTOM - 1.0);
        let _ = write!(
            svg,
            "<g class=\"p1\"><rect class=\"b1\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
             rx=\"1.5\"><title>{}</title></rect></g>",
            left + 0.5,
            (right - left - 1.0).max(0.5),
            HEIGHT - BOTTOM - top,
            escaped(told)
        );
    }
    svg + "</svg>"
}

/// A row of rounds: its name, and what each round came to.
#[derive(Debug)]
pub struct Row {
    /// At the beginning of the row.
    pub name: String,
    /// One a round.
    pub values: Vec<f64>,
    /// Of the values.
    pub median: f64,
    /// At the end of the row.
    pub told: String,
}

const ROW: f64 = 40.0;
const NAMES: f64 = 170.0;
const TOLD: f64 = 140.0;

/// Rows of dots, one a round, with their range and their median.
pub fn ranges(name: &str, axis: &Axis, rows: &[Row]) -> String {
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + BOTTOM;
    let place = |number: f64| NAMES + axis.place(number) * (WIDTH - NAMES - TOLD);
    let mut svg = begin(name, height);
    for tick in axis.ticks() {
        let x = place(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/><text class=\"tick\" \
             x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            (axis.text)(tick)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        place((axis.from + axis.to) / 2.0),
        bottom + 36.0,
        axis.label
    );
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (number as f64 + 0.5);
        let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.values.iter().copied().fold(0.0, f64::max);
        let shown: String = row.name.chars().take(NAME_LETTERS).collect();
        let cut = if shown.len() < row.name.len() { "…" } else { "" };
        let (median, baseline) = (place(row.median), y + 4.0);
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}{cut}<title>{}</title></text>\
             <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            NAMES - 14.0,
            escaped(&shown),
            escaped(&row.name),
            place(least),
            place(most),
        );
        for (round, &value) in row.values.iter().enumerate() {
            let _ = write!(
                svg,
                "<circle class=\"round\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"><title>round {}: {}</title></circle>",
                place(value),
                round + 1,
                numbers::short(value)
            );
        }
        let _ = write!(
            svg,
            "<line class=\"median\" x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"told\" \
             x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
            y - 11.0,
            y + 11.0,
            WIDTH - TOLD + 14.0,
            escaped(&row.told)
        );
    }
    svg + "</svg>"
}

/// Letters of a row's name that are shown.
const NAME_LETTERS: usize = 19;

fn begin(name: &str, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(name))
}

/// Grid, ticks and labels.
fn frame(name: &str, x: &Axis, y: &Axis) -> String {
    let mut svg = begin(name, HEIGHT);
    let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y.ticks() {
        let at = y_of(y, tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" \
             x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            (y.text)(tick)
        );
    }
    for tick in x.ticks() {
        let at = x_of(x, tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{floor}\"/><text class=\"tick\" \
             x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            floor + 16.0,
            (x.text)(tick)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{floor}\" y2=\"{floor}\"/><text class=\"label\" \
         x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 6.0,
        x.label
    );
    svg
}

fn legend(series: &[Series]) -> String {
    if series.len() < 2 {
        return String::new();
    }
    let items: String = series
        .iter()
        .enumerate()
        .map(|(number, series)| format!("<span class=\"k{}\">{}</span>", number + 1, escaped(series.name)))
        .collect();
    format!("<p class=\"legend\">{items}</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: f64) -> String {
        format!("{number}")
    }

    #[test]
    fn axes_have_round_ticks_that_hold_everything() {
        for (least, most) in [(1.0, 7.0), (3.0, 2_900.0), (0.02, 99.0), (5.0, 5.0), (0.0, 0.0), (1.0, 1e6)] {
            let axis = Axis::fitting(least, most, "x", text);
            assert!(axis.from <= least && most <= axis.to, "{least} {most}: {axis:?}");
            let ticks = axis.ticks();
            assert!((2..=16).contains(&ticks.len()), "{least} {most}: {ticks:?}");
            assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{ticks:?}");
        }
        assert_eq!(Axis::linear(93.0, "x", text).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let nines = Axis { scale: Scale::Nines, from: 0.0, to: 99.99, label: "x", text };
        let places: Vec<_> = [0.0, 90.0, 99.0, 99.9, 99.99].map(|p| (nines.place(p) * 4.0).round()).into();
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn what_users_wrote_is_text() {
        let row = Row { name: "<b>&\"".into(), values: vec![1.0], median: 1.0, told: "1 <".into() };
        let svg = ranges("a", &Axis::linear(2.0, "x", text), &[row]);
        assert!(svg.contains("&lt;b&gt;&amp;&quot;") && !svg.contains("<b>"), "{svg}");
    }
}
