//! A measurement as one page: styles and charts are in it, and nothing is fetched from anywhere.

use resay_measure::escaped;

use super::chart::{self, Axis, Bar, Scale, Series};
use super::{About, Outcome, Percentile, Run, numbers, text};

const STYLE: &str = include_str!("page.css");

/// One run.
pub(crate) fn run(run: &Run) -> String {
    let (about, result) = (&run.about, &run.result);
    let settings = &about.settings;
    let body = [
        header(
            &settings.url,
            &format!("{} · expected to answer as {}", settings.line(), settings.expect),
            about,
        ),
        tiles(&tiles_of(run)),
        notes(result),
        charts(result, settings.rate_per_s.is_some()),
        format!("<div class=\"tables\">{}{}{}</div>", percentiles(result), counts(run), circumstances(about)),
    ];
    page(&format!("{} – resay bench", settings.url), &body.concat())
}

/// All of a page around its body.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n{body}\n<footer>Made by resay {} bench. This page is complete in itself.</footer>\n</main>\n</body>\n\
         </html>\n",
        escaped(title),
        resay::VERSION
    )
}

pub(crate) fn header(title: &str, line: &str, about: &About) -> String {
    format!(
        "<header><h1>{}</h1><p>{}</p><p>{} · {}</p></header>\n",
        escaped(title),
        escaped(line),
        escaped(&about.machine.line()),
        escaped(&about.date)
    )
}

/// Numbers that are seen first: a value, and what it is.
pub(crate) fn tiles(tiles: &[(String, String)]) -> String {
    let tile = |(value, name): &(String, String)| {
        format!("<div class=\"tile\"><b>{}</b><small>{}</small></div>", escaped(value), escaped(name))
    };
    format!("<div class=\"tiles\">{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

fn tiles_of(run: &Run) -> Vec<(String, String)> {
    let result = &run.result;
    let latency = &result.latency_us;
    let mut tiles = vec![
        (format!("{}/s", numbers::whole(result.throughput.messages_per_s)), "messages".to_owned()),
        (numbers::time(latency.p50), "p50 latency".to_owned()),
        (numbers::time(latency.p99), "p99 latency".to_owned()),
        (numbers::time(latency.p99_9), "p99.9 latency".to_owned()),
        (numbers::time(latency.max), "longest".to_owned()),
    ];
    tiles.push((numbers::count(result.messages.wrong), "wrong answers".to_owned()));
    if run.about.settings.lost_after_s.is_some() {
        tiles.push((numbers::count(result.messages.lost), "lost datagrams".to_owned()));
    }
    tiles
}

fn notes(result: &Outcome) -> String {
    let wrong = result.first_wrong.as_ref().map(|wrong| {
        format!(
            "<section class=\"notes bad\"><h2>Wrong answers</h2><pre>{}</pre></section>\n",
            escaped(&text::wrong(wrong))
        )
    });
    wrong.unwrap_or_default() + &warnings(&result.warnings)
}

pub(crate) fn warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let items: String = warnings.iter().map(|warning| format!("<li>{}</li>", escaped(warning))).collect();
    format!("<section class=\"notes\"><ul>{items}</ul></section>\n")
}

/// A titled box.
pub(crate) fn section(title: &str, line: &str, content: &str) -> String {
    let line = if line.is_empty() { String::new() } else { format!("<p>{}</p>", escaped(line)) };
    format!("<section><h2>{}</h2>{line}{content}</section>\n", escaped(title))
}

fn charts(result: &Outcome, is_open: bool) -> String {
    if result.latency_us.count == 0 || result.messages.answered == 0 {
        return String::new();
    }
    let from = if is_open { "from when a message was due" } else { "from sending to the whole answer" };
    let each = [
        section(
            "Latency by percentile",
            &format!("{from}; every nine has the same room"),
            &percentile_chart(result),
        ),
        section("Latency histogram", "messages by latency, on a logarithmic axis", &histogram_chart(result)),
        section(
            "Latency over time",
            "of the messages that were due in each interval",
            &latency_chart(result),
        ),
        section("Throughput over time", "answers that arrived in each interval", &throughput_chart(result)),
    ];
    format!("<div class=\"charts\">{}</div>\n", each.concat())
}

fn percent(percentile: f64) -> String {
    format!("{percentile} %")
}

fn seconds(seconds: f64) -> String {
    // Steps of a tenth are not written 0.30000000000000004.
    format!("{} s", (seconds * 1000.0).round() / 1000.0)
}

fn percentile_chart(result: &Outcome) -> String {
    let latency = &result.latency_us;
    // The last message stands for itself; further right nothing is known.
    let last = 100.0 * (1.0 - 1.0 / latency.count.max(2) as f64);
    let points: Vec<&Percentile> = latency.percentiles.iter().collect();
    let place = |point: &&Percentile| (point.percentile.min(last), point.us);
    let told = |point: &&Percentile| format!("{:.4} %: {}", point.percentile, numbers::time(point.us));
    let series = Series {
        name: "latency",
        points: points.iter().map(place).collect(),
        told: points.iter().map(told).collect(),
    };
    let x = Axis { scale: Scale::Nines, from: 0.0, to: last, label: "percentile", text: percent };
    let y = Axis::fitting(latency.min, latency.max, "latency", numbers::axis_time);
    chart::lines("Latency by percentile", &x, &y, &[series], true)
}

fn histogram_chart(result: &Outcome) -> String {
    let latency = &result.latency_us;
    let bars: Vec<Bar> = latency
        .histogram
        .iter()
        .map(|bin| {
            let (from, to) = (numbers::time(bin.from_us), numbers::time(bin.to_us));
            (
                bin.from_us,
                bin.to_us,
                bin.count as f64,
                format!("{from} to {to}: {}", numbers::count(bin.count)),
            )
        })
        .collect();
    let (from, to) = (bars.first().map_or(1.0, |bar| bar.0), bars.last().map_or(2.0, |bar| bar.1));
    let x = Axis { scale: Scale::Log, from, to, label: "latency", text: numbers::axis_time };
    let most = bars.iter().map(|bar| bar.2).fold(0.0, f64::max);
    chart::bars("Latency histogram", &x, &Axis::linear(most, "messages", numbers::rate), &bars)
}

fn latency_chart(result: &Outcome) -> String {
    let end = result.intervals.last().map_or(1.0, |interval| interval.to_s);
    let series = |name: &'static str, of: fn(&super::Interval) -> Option<f64>| {
        let known: Vec<_> =
            result.intervals.iter().filter_map(|interval| Some((interval, of(interval)?))).collect();
        let told = |(interval, us): &(&super::Interval, f64)| {
            let (from, to) = (seconds(interval.from_s), seconds(interval.to_s));
            format!("{from} to {to}: {name} {}", numbers::time(*us))
        };
        Series {
            name,
            points: known
                .iter()
                .map(|(interval, us)| ((interval.from_s + interval.to_s) / 2.0, *us))
                .collect(),
            told: known.iter().map(told).collect(),
        }
    };
    let all = [series("p50", |interval| interval.p50_us), series("p99", |interval| interval.p99_us)];
    let values = || all.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let x = time_axis(end);
    chart::lines(
        "Latency over time",
        &x,
        &Axis::fitting(least, most, "latency", numbers::axis_time),
        &all,
        false,
    )
}

fn throughput_chart(result: &Outcome) -> String {
    let end = result.intervals.last().map_or(1.0, |interval| interval.to_s);
    let series = Series {
        name: "messages a second",
        points: result
            .intervals
            .iter()
            .map(|interval| ((interval.from_s + interval.to_s) / 2.0, interval.messages_per_s))
            .collect(),
        told: result
            .intervals
            .iter()
            .map(|interval| {
                let (from, to) = (seconds(interval.from_s), seconds(interval.to_s));
                let bytes = numbers::bytes(interval.answer_bytes_per_s);
                format!("{from} to {to}: {} messages/s, {bytes}/s", numbers::whole(interval.messages_per_s))
            })
            .collect(),
    };
    let most = series.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let y = Axis::linear(most, "messages a second", numbers::rate);
    chart::lines("Throughput over time", &time_axis(end), &y, &[series], true)
}

fn time_axis(end: f64) -> Axis {
    Axis { scale: Scale::Linear, from: 0.0, to: end, label: "time", text: seconds }
}

/// Rows of a table: a name and a value.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("<tr><th>{}</th><td>{value}</td></tr>", escaped(name));
    format!("<table>{}</table>", rows.iter().map(row).collect::<String>())
}

fn percentiles(result: &Outcome) -> String {
    let latency = &result.latency_us;
    let rows = [
        ("least", latency.min),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("p99.99", latency.p99_99),
        ("longest", latency.max),
        ("mean", latency.mean),
        ("standard deviation", latency.stdev),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(name, us)| (name, numbers::time(us))).collect();
    section("Latency", "", &table(&rows))
}

fn counts(run: &Run) -> String {
    let (messages, connections) = (&run.result.messages, &run.result.connections);
    let throughput = &run.result.throughput;
    let mut rows = vec![
        (text::asked(&run.about.settings), numbers::count(messages.asked)),
        ("answered", numbers::count(messages.answered)),
        ("wrong", numbers::count(messages.wrong)),
        ("lost", numbers::count(messages.lost)),
        ("unanswered", numbers::count(messages.unanswered)),
        ("unasked or late", numbers::count(messages.unasked)),
        ("bytes of answers", format!("{}/s", numbers::bytes(throughput.answer_bytes_per_s))),
        ("connections open at the end", format!("{} of {}", connections.open_at_end, connections.asked)),
    ];
    for (number, thread) in run.result.generator.threads.iter().enumerate() {
        let name = if number == 0 { "generator busy" } else { "" };
        rows.push((name, format!("{:.0} %", thread.busy * 100.0)));
    }
    if let Some(schedule) = &run.result.generator.schedule {
        rows.push(("generator late, p99", numbers::time(schedule.late_p99_us)));
        rows.push(("generator late, most", numbers::time(schedule.late_max_us)));
    }
    if let Some(us) = run.result.server.and_then(|server| server.cpu_us_per_answer) {
        rows.push(("server CPU an answer", numbers::time(us)));
    }
    section("Messages", "", &table(&rows))
}

/// Settings and machine.
pub(crate) fn circumstances(about: &About) -> String {
    let settings = &about.settings;
    let rows = [
        ("server", code(&settings.url)),
        ("expected chain", code(&settings.expect)),
        ("load", escaped(&settings.line())),
        ("time", format!("{} after {} of warm-up", seconds(settings.duration_s), seconds(settings.warmup_s))),
        ("threads, seed", format!("{}, {}", settings.threads, settings.seed)),
        ("machine", escaped(&about.machine.line())),
        ("version", escaped(about.version)),
        ("date", escaped(&about.date)),
        ("command", code(&command_of(about))),
    ];
    section("Circumstances", "", &table(&rows))
}

/// As one would type it.
fn command_of(about: &About) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@+%".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    about.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

pub(crate) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}
