//! Three charts, one below the other: memory, descriptors, latency.

use resay_measure::chart::{self, Axis, Series};
use resay_measure::{escaped, numbers};

use crate::watch::Sample;

const WIDTH: f64 = 600.0;
const PANEL_HEIGHT: f64 = 290.0;
const TITLE_HEIGHT: f64 = 44.0;
/// More points than this cannot be told apart.
const POINTS_MAX: usize = 300;

const STYLE: &str = "
  svg { --ground: #ffffff; --ink: #1b1c1e; --soft: #5c6066; --faint: #8a8f96; --rule: #e4e4e0; --one: #2466c9; --two: #c2570c; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #1d1f22; --ink: #ececea; --soft: #a9adb3; --faint: #7d828a; --rule: #303338; --one: #78adff; --two: #ffab63; }
  }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; } .head { font-weight: 600; }
  .ground { fill: var(--ground); } .tick { fill: var(--faint); } .label { fill: var(--soft); }
  .grid { stroke: var(--rule); } .axis { stroke: var(--faint); }
  .l1, .l2 { fill: none; stroke-width: 1.6; stroke-linejoin: round; } .l1 { stroke: var(--one); } .l2 { stroke: var(--two); }
  .a1 { fill: var(--one); opacity: 0.12; } .hit, .dot { opacity: 0; }
";

pub(crate) fn draw(samples: &[Sample], minutes: f64) -> String {
    let samples = thinned(samples);
    let most = |figure: fn(&Sample) -> f64| samples.iter().map(figure).fold(0.0, f64::max);
    let least = |figure: fn(&Sample) -> f64| samples.iter().map(figure).fold(f64::INFINITY, f64::min);
    let x = Axis::linear(most(|sample| sample.second), "seconds", |second| format!("{second:.0}"));
    let series = |name, figure: fn(&Sample) -> f64, text: fn(f64) -> String| Series {
        name,
        points: samples.iter().map(|sample| (sample.second, figure(sample))).collect(),
        told: samples
            .iter()
            .map(|sample| format!("{:.0} s: {}", sample.second, text(figure(sample))))
            .collect(),
    };
    let memory: fn(&Sample) -> f64 = |sample| sample.memory_bytes;
    let descriptors: fn(&Sample) -> f64 = |sample| sample.descriptors as f64;
    let p50: fn(&Sample) -> f64 = |sample| sample.p50_us;
    let p99: fn(&Sample) -> f64 = |sample| sample.p99_us;
    let longest: fn(&Sample) -> f64 = |sample| sample.max_us;
    let panels = [
        (
            "Resident memory",
            chart::lines(
                "memory",
                &x,
                &Axis::linear(most(memory), "", numbers::bytes),
                &[series("memory", memory, numbers::bytes)],
                true,
            ),
        ),
        (
            "Open descriptors",
            chart::lines(
                "descriptors",
                &x,
                &Axis::linear(most(descriptors), "", numbers::whole),
                &[series("descriptors", descriptors, numbers::whole)],
                true,
            ),
        ),
        (
            "Latency of well-behaved peers: p50 (blue) and p99 (orange) of each second",
            chart::lines(
                "latency",
                &x,
                &Axis::fitting(least(p50).max(1.0), most(p99), "", numbers::axis_time),
                &[series("p50", p50, numbers::time), series("p99", p99, numbers::time)],
                false,
            ),
        ),
    ];
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len() as f64;
    let answers: u64 = samples.iter().map(|sample| sample.answers).sum();
    let title = format!("{minutes} minutes under everything at once");
    let note = format!(
        "{} answers to these in the seconds shown; the longest took {}",
        numbers::count(answers),
        numbers::time(most(longest))
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"16\" y=\"22\">{}</text>\n<text class=\"label\" x=\"16\" y=\"39\">{}</text>\n",
        escaped(&title),
        escaped(&note)
    );
    for (place, (name, panel)) in panels.iter().enumerate() {
        let y = TITLE_HEIGHT + PANEL_HEIGHT * place as f64;
        // A legend is for pages.
        let inner = panel.split_inclusive("</svg>").next().unwrap_or_default();
        let inner = inner.replacen(
            "<svg ",
            &format!("<svg x=\"16\" y=\"{}\" width=\"560\" height=\"270\" ", y + 20.0),
            1,
        );
        svg +=
            &format!("<text class=\"head\" x=\"16\" y=\"{}\">{}</text>\n{inner}\n", y + 14.0, escaped(name));
    }
    svg + "</svg>\n"
}

/// At most so many samples: of each group the one with the longest answer, which is what is looked for.
fn thinned(samples: &[Sample]) -> Vec<Sample> {
    let group = samples.len().div_ceil(POINTS_MAX).max(1);
    let worst = |group: &[Sample]| group.iter().max_by(|a, b| a.p99_us.total_cmp(&b.p99_us)).cloned();
    samples.chunks(group).filter_map(worst).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_three_charts_of_few_points() {
        let sample = |second: u32| Sample {
            second: f64::from(second),
            memory_bytes: 2e7,
            descriptors: 30,
            threads: 5,
            answers: 1000,
            p50_us: 80.0,
            p99_us: if second == 77 { 9e5 } else { 400.0 },
            max_us: 1e3,
        };
        let samples: Vec<_> = (0..1800).map(sample).collect();
        let svg = draw(&samples, 30.0);
        assert_eq!((svg.matches("<svg").count(), svg.matches("</svg>").count()), (4, 4));
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(
            thinned(&samples).len() <= POINTS_MAX
                && thinned(&samples).iter().any(|sample| sample.p99_us > 8e5)
        );
        assert!(svg.contains("30 minutes"));
    }
}
