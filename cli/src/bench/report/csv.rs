//! A measurement as comma-separated values (RFC 4180): a line of names, and a line a run.

use super::Run;

/// One run.
pub(crate) fn run(run: &Run) -> String {
    let (settings, result) = (&run.about.settings, &run.result);
    let (messages, latency) = (&result.messages, &result.latency_us);
    let optional = |number: Option<String>| number.unwrap_or_default();
    let server_cpu_us = result.server.and_then(|server| server.cpu_us_per_answer);
    table(&[vec![
        ("date", run.about.date.clone()),
        ("url", settings.url.clone()),
        ("expect", settings.expect.clone()),
        ("loop", settings.pace.to_owned()),
        ("connections", settings.connections.to_string()),
        ("message_bytes", settings.message_bytes.to_string()),
        ("pipeline", optional(settings.pipeline.map(|pipeline| pipeline.to_string()))),
        ("rate_per_s", optional(settings.rate_per_s.map(|rate| rate.to_string()))),
        ("duration_s", settings.duration_s.to_string()),
        ("messages_per_s", format!("{:.1}", result.throughput.messages_per_s)),
        ("answer_bytes_per_s", format!("{:.0}", result.throughput.answer_bytes_per_s)),
        ("asked", messages.asked.to_string()),
        ("answered", messages.answered.to_string()),
        ("wrong", messages.wrong.to_string()),
        ("lost", messages.lost.to_string()),
        ("unanswered", messages.unanswered.to_string()),
        ("min_us", micros(latency.min)),
        ("mean_us", micros(latency.mean)),
        ("stdev_us", micros(latency.stdev)),
        ("p50_us", micros(latency.p50)),
        ("p90_us", micros(latency.p90)),
        ("p99_us", micros(latency.p99)),
        ("p99_9_us", micros(latency.p99_9)),
        ("p99_99_us", micros(latency.p99_99)),
        ("max_us", micros(latency.max)),
        ("server_cpu_us_per_answer", optional(server_cpu_us.map(micros))),
        ("generator_is_limit", result.generator.is_limit.to_string()),
        ("exit_status", result.exit_status.to_string()),
    ]])
}

pub(crate) fn micros(us: f64) -> String {
    format!("{us:.3}")
}

/// A line of the first row's names, and a line a row.
pub(crate) fn table(rows: &[Vec<(&str, String)>]) -> String {
    let names = rows.first().into_iter().map(|row| row.iter().map(|(name, _)| quoted(name)).collect());
    let values = rows.iter().map(|row| row.iter().map(|(_, value)| quoted(value)).collect());
    names.chain(values).map(|cells: Vec<String>| cells.join(",") + "\n").collect()
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_quoted() {
        let rows = [vec![("chain", "prefix:text=\"a, b\"".to_owned()), ("n", "1".to_owned())]];
        assert_eq!(table(&rows), "chain,n\n\"prefix:text=\"\"a, b\"\"\",1\n");
    }
}
