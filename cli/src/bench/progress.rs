//! A bar on standard error, if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use resay_load::Span;
use resay_measure::numbers;

/// How far a measurement is.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// `name` stands before the bar.
    pub(crate) fn new(name: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
        // The template is a constant, and good.
        if let Ok(style) = ProgressStyle::with_template("{prefix}{bar:30} {msg}") {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(if name.is_empty() { String::new() } else { format!("{name} ") });
        Progress(bar)
    }

    pub(crate) fn begin(&self, span: Span) {
        self.0.reset();
        self.0.set_length(span.end);
    }

    pub(crate) fn show(&self, now: u64, answers: u64) {
        let end = self.0.length().unwrap_or(0);
        let left = Duration::from_nanos(end.saturating_sub(now)).as_secs_f64();
        self.0.set_position(now.min(end));
        self.0.set_message(format!("{} answers, {left:.0} s left", numbers::count(answers)));
    }

    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
