//! A measurement as text for a terminal.

use std::fmt::Write;

use super::{FirstWrong, Run, Settings, numbers};

/// All of it, with a newline at the end.
pub(crate) fn run(run: &Run) -> String {
    let (about, result) = (&run.about, &run.result);
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<12} {what}");
    };
    line("server", format!("{}, expected to answer as {:?}", about.settings.url, about.settings.expect));
    line("load", about.settings.line());
    line("machine", about.machine.line());
    let throughput = &result.throughput;
    line(
        "throughput",
        format!(
            "{} messages/s, {}/s, in {} s",
            numbers::whole(throughput.messages_per_s),
            numbers::bytes(throughput.answer_bytes_per_s),
            numbers::short(throughput.seconds)
        ),
    );
    let messages = &result.messages;
    let mut parts = vec![
        format!("{} {}", numbers::count(messages.asked), asked(&about.settings)),
        format!("{} answered", numbers::count(messages.answered)),
        match messages.wrong {
            0 => "0 wrong".to_owned(),
            wrong => format!("{} wrong, warm-up included", numbers::count(wrong)),
        },
    ];
    if about.settings.lost_after_s.is_some() {
        let share = messages.lost as f64 / messages.asked.max(1) as f64 * 100.0;
        parts.push(format!("{} lost ({} %)", numbers::count(messages.lost), numbers::short(share)));
    }
    if messages.unanswered > 0 {
        parts.push(format!("{} unanswered", numbers::count(messages.unanswered)));
    }
    line("messages", parts.join(", "));
    let latency = &result.latency_us;
    // Lost messages alone have no latency: each has the time after which it was given up.
    if latency.count > 0 && messages.answered > 0 {
        let shown = [
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p99_9),
            ("p99.99", latency.p99_99),
            ("max", latency.max),
        ];
        let names: String = shown.iter().map(|(name, _)| format!("{name:>11}")).collect();
        let times: String = shown.iter().map(|(_, us)| format!("{:>11}", numbers::time(*us))).collect();
        line("latency", names);
        line("", times);
        line(
            "",
            format!(
                "mean {}, standard deviation {}, least {}{}",
                numbers::time(latency.mean),
                numbers::time(latency.stdev),
                numbers::time(latency.min),
                if about.settings.rate_per_s.is_some() { "; from when a message was due" } else { "" }
            ),
        );
    }
    let busy: Vec<_> =
        result.generator.threads.iter().map(|thread| format!("{:.0} %", thread.busy * 100.0)).collect();
    let mut generator = format!("busy {} of the time", busy.join(", "));
    if let Some(schedule) = &result.generator.schedule {
        let _ = write!(
            generator,
            "; late by p50 {}, p99 {}, at most {}",
            numbers::time(schedule.late_p50_us),
            numbers::time(schedule.late_p99_us),
            numbers::time(schedule.late_max_us)
        );
    }
    line("generator", generator);
    if let Some(server) = &result.server {
        let each = server.cpu_us_per_answer.map(|us| format!(", {} an answer", numbers::time(us)));
        line("server CPU", format!("{} s{}", numbers::short(server.cpu_s), each.unwrap_or_default()));
    }
    text
}

/// What became of a message first: by a schedule it is due, whether it was sent or not.
pub(crate) fn asked(settings: &Settings) -> &'static str {
    if settings.rate_per_s.is_some() { "due" } else { "sent" }
}

/// The first answer that was wrong, several lines.
pub(crate) fn wrong(wrong: &FirstWrong) -> String {
    let FirstWrong { connection, message, offset, connection_offset, .. } = wrong;
    let head = if wrong.shown_from > 0 { "…" } else { "" };
    let tail = |shown: &str, bytes: usize| if wrong.shown_from + shown.len() < bytes { "…" } else { "" };
    let width = wrong.expected_bytes.max(wrong.got_bytes).to_string().len();
    format!(
        "the first wrong answer: connection {connection}, message {message}, offset {offset} (offset \
         {connection_offset} of the connection)\n  expected {:>width$} bytes: {head}\"{}\"{}\n  got      {:>width$} \
         bytes: {head}\"{}\"{}",
        wrong.expected_bytes,
        wrong.expected,
        tail(&wrong.expected, wrong.expected_bytes),
        wrong.got_bytes,
        wrong.got,
        tail(&wrong.got, wrong.got_bytes),
    )
}
