//! What a measurement came to, in numbers that everybody can read: the JSON document, from which the text, CSV and HTML
//! are made as well.

pub(crate) mod comparison;
pub(crate) mod csv;
pub(crate) mod html;
pub(crate) mod text;

use resay_load::{Cost, Latencies, Script, Wrong};
use resay_measure::{chart, numbers};
use serde::Serialize;

use super::machine::Machine;
use super::measure::Measured;
use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// The name of the JSON document and the number of its form.
pub(crate) const SCHEMA: &str = "resay.bench/1";

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) about: About,
    #[serde(flatten)]
    pub(crate) result: Outcome,
}

/// What every document begins with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    pub(crate) schema: &'static str,
    /// `run` or `compare`.
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    /// RFC 3339, when it began.
    pub(crate) date: String,
    pub(crate) command: Vec<String>,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) transport: &'static str,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub(crate) pace: &'static str,
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    /// Messages in flight a connection; none: not limited.
    pub(crate) pipeline: Option<usize>,
    /// Messages a second over all connections, where they have a schedule.
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) frame: String,
    pub(crate) expect: String,
    pub(crate) threads: usize,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) lost_after_s: Option<f64>,
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) messages: Messages,
    pub(crate) connections: Connections,
    pub(crate) throughput: Throughput,
    pub(crate) latency_us: Latency,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) generator: Generator,
    /// With `--server-pid`.
    pub(crate) server: Option<Server>,
    pub(crate) first_wrong: Option<FirstWrong>,
    pub(crate) warnings: Vec<String>,
    pub(crate) exit_status: u8,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Messages {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) unanswered: u64,
    pub(crate) wrong: u64,
    pub(crate) unasked: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Connections {
    pub(crate) asked: usize,
    /// Those that could not be made.
    pub(crate) not_made: usize,
    pub(crate) open_at_end: usize,
    pub(crate) ended: u64,
    pub(crate) reset: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

/// What arrived within the measured time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Throughput {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) messages_per_s: f64,
    pub(crate) answer_bytes: u64,
    pub(crate) answer_bytes_per_s: f64,
}

/// In microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    /// `answered` and `unanswered`: the latter have waited so long at least.
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) stdev: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
    pub(crate) percentiles: Vec<Percentile>,
    pub(crate) histogram: Vec<Bin>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentile {
    pub(crate) percentile: f64,
    pub(crate) us: f64,
    /// Messages of at most this latency.
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Bin {
    pub(crate) from_us: f64,
    pub(crate) to_us: f64,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Interval {
    /// From the beginning of the measured time.
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    /// What arrived in it.
    pub(crate) messages: u64,
    pub(crate) messages_per_s: f64,
    pub(crate) answer_bytes_per_s: f64,
    /// Of the messages that were due in it; none: there was none.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
}

/// The processor time of the server in the measured time, and the answers that it gave meanwhile.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_s: f64,
    pub(crate) answers: u64,
    /// None: there was no answer.
    pub(crate) cpu_us_per_answer: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Generator {
    /// The figures may be the generator's own rather than the server's.
    pub(crate) is_limit: bool,
    pub(crate) threads: Vec<Thread>,
    pub(crate) schedule: Option<Schedule>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Thread {
    pub(crate) cpu_s: f64,
    /// Of the measured time.
    pub(crate) busy: f64,
}

/// How late messages were taken up by the generator's own doing.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Schedule {
    pub(crate) late_p50_us: f64,
    pub(crate) late_p99_us: f64,
    pub(crate) late_max_us: f64,
    /// Of all messages, those more than a millisecond late.
    pub(crate) late_over_1ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct FirstWrong {
    pub(crate) connection: usize,
    pub(crate) message: u64,
    /// The first byte that differs, in its answer and in all that came on the connection, from 0.
    pub(crate) offset: usize,
    pub(crate) connection_offset: u64,
    pub(crate) expected_bytes: usize,
    pub(crate) got_bytes: usize,
    /// Around the place, from `shown_from` on, escaped as in Rust.
    pub(crate) shown_from: usize,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// A thread that runs this much of the time has no time left.
const BUSY: f64 = 0.95;
/// More messages than this share a millisecond late, and the schedule was not kept.
const LATE_SHARE: f64 = 0.01;
/// A server that answers less than this share of what is due in an open loop does not keep up.
const KEPT_UP: f64 = 0.98;
/// Bars of the histogram.
const BINS: usize = 60;
/// Points of the percentile curve for each halving of what is left.
const TICKS_PER_HALVING: u32 = 5;

impl About {
    pub(crate) fn new(kind: &'static str, plan: &Plan, date: String) -> About {
        About {
            schema: SCHEMA,
            kind,
            version: resay::VERSION,
            date,
            command: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            machine: Machine::here(),
            settings: Settings::of(plan),
        }
    }
}

impl Settings {
    fn of(plan: &Plan) -> Settings {
        let (url, threads, plan) = (plan.url.clone(), plan.threads, &plan.load);
        Settings {
            url,
            transport: plan.kind.scheme(),
            pace: plan.pace.name(),
            connections: plan.connections,
            message_bytes: plan.message_bytes,
            pipeline: plan.pace.pipeline(),
            rate_per_s: plan.pace.rate(),
            frame: plan.frame.to_string(),
            expect: if plan.expect.is_empty() { "identity".to_owned() } else { plan.expect.clone() },
            threads,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            lost_after_s: plan.kind.is_datagram().then_some(plan.lost_after.as_secs_f64()),
            seed: plan.seed,
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let pipeline =
            self.pipeline.map(|pipeline| format!(", {pipeline} in flight each")).unwrap_or_default();
        let rate = self
            .rate_per_s
            .map(|rate| format!(", {} due a second", numbers::whole(rate)))
            .unwrap_or_default();
        let frame = if self.frame == "raw" { String::new() } else { format!(", frame {}", self.frame) };
        format!(
            "{}, {}, {} loop{rate}{pipeline}{frame}",
            plural(self.connections, "connection"),
            plural(self.message_bytes, "byte") + " a message",
            self.pace,
        )
    }
}

pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

impl Server {
    fn of(cost: Cost) -> Server {
        let Cost { cpu_ns, answers } = cost;
        let per_answer = (answers > 0).then(|| us(cpu_ns) / answers as f64);
        Server { cpu_s: us(cpu_ns) / 1e6, answers, cpu_us_per_answer: per_answer }
    }
}

impl Outcome {
    /// What was seen, and what is to be said about it.
    pub(crate) fn of(plan: &Plan, measured: &Measured, script: &Script) -> Result<Outcome, Failure> {
        let (plan, tally, span) = (&plan.load, &measured.tally, measured.span);
        let counts = tally.counts;
        let latencies = tally.latencies()?;
        let seconds = us(span.end - span.begin) / 1e6;
        let arrived: u64 = tally.intervals.iter().map(|interval| interval.answers).sum();
        let bytes: u64 = tally.intervals.iter().map(|interval| interval.answer_bytes).sum();
        let generator = Generator::of(plan, measured);
        let mut outcome = Outcome {
            messages: Messages {
                asked: counts.asked,
                answered: counts.answered,
                lost: counts.lost,
                unanswered: counts.unanswered,
                wrong: counts.wrong,
                unasked: counts.unasked,
            },
            connections: Connections {
                asked: plan.connections,
                not_made: measured.connections.failed,
                open_at_end: measured.connections.open_at_end,
                ended: counts.ended,
                reset: counts.reset,
                refused: counts.refused,
                failed: counts.failed,
            },
            throughput: Throughput {
                seconds,
                messages: arrived,
                messages_per_s: arrived as f64 / seconds,
                answer_bytes: bytes,
                answer_bytes_per_s: bytes as f64 / seconds,
            },
            latency_us: Latency::of(&latencies),
            intervals: intervals(measured),
            generator,
            server: measured.server.map(Server::of),
            first_wrong: tally.first_wrong.as_ref().map(FirstWrong::of),
            warnings: measured.notes.clone(),
            exit_status: Exit::Done as u8,
        };
        outcome.warn(plan, measured, script);
        outcome.exit_status = outcome.exit(measured) as u8;
        Ok(outcome)
    }

    /// How the command is to end.
    pub(crate) fn exit(&self, measured: &Measured) -> Exit {
        let connections = &self.connections;
        if self.messages.wrong + self.messages.unasked_streams(measured) > 0 {
            Exit::Unexpected
        } else if connections.ended + connections.reset > 0 {
            Exit::Broken
        } else if let Some((exit, _)) = measured.failure {
            exit
        } else if let Some(interrupt) = measured.interrupt {
            interrupt.exit()
        } else if connections.refused > 0 || connections.not_made > 0 {
            Exit::Unreachable
        } else if measured.is_silent || self.has_no_answer() {
            Exit::Timeout
        } else {
            Exit::Done
        }
    }

    /// Nothing was answered that was due in the measured time, nor did anything arrive in it.
    pub(crate) fn has_no_answer(&self) -> bool {
        self.messages.answered == 0 && (self.messages.asked > 0 || self.throughput.messages == 0)
    }

    fn warn(&mut self, plan: &resay_load::Plan, measured: &Measured, script: &Script) {
        let mut warnings = Vec::new();
        for (number, thread) in self.generator.threads.iter().enumerate() {
            if thread.busy >= BUSY && plan.pace.rate().is_none() {
                warnings.push(format!(
                    "the generator is the limit: its thread {number} was busy {:.0} % of the time; the server may be \
                     able to do more (more --threads, fewer connections a thread, another machine)",
                    thread.busy * 100.0
                ));
            }
        }
        if let Some(schedule) = &self.generator.schedule
            && self.generator.is_limit
        {
            warnings.push(format!(
                "the generator fell behind its own schedule: {:.1} % of the messages were taken up more than 1 ms \
                 late, at most {} late, which is in the latencies (a lower --rate, more --threads, a quieter machine)",
                schedule.late_over_1ms * 100.0,
                numbers::time(schedule.late_max_us)
            ));
        }
        let (messages, connections) = (&self.messages, &self.connections);
        if messages.unanswered > 0 {
            warnings.push(format!(
                "{} messages have no answer; their latencies are what they had waited at least",
                numbers::count(messages.unanswered)
            ));
        }
        if let Some(rate) = plan.pace.rate()
            && (self.throughput.messages + messages.lost) as f64 / self.throughput.seconds < KEPT_UP * rate
        {
            warnings.push(format!(
                "the server did not keep up: {} answers a second of {} that were due",
                numbers::whole(self.throughput.messages_per_s),
                numbers::whole(rate)
            ));
        }
        let troubles = [
            (connections.ended, "ended by the server"),
            (connections.reset, "reset"),
            (connections.refused, "refused"),
            (connections.failed, "failed"),
            (connections.not_made as u64, "could not be made"),
        ];
        for (count, what) in troubles.into_iter().filter(|(count, _)| *count > 0) {
            let why = match what {
                "failed" => measured.failure.as_ref().map(|(_, why)| why),
                "could not be made" => measured.connections.failed_because.as_ref(),
                _ => None,
            };
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let of = connections.asked;
            warnings.push(format!("connections: {count} of {of} {what}{why}"));
        }
        if messages.unasked > 0 {
            let what = if plan.kind.is_datagram() {
                "answers came late, or once more"
            } else {
                "answers came to nothing that was asked"
            };
            warnings.push(format!("{} {what}", numbers::count(messages.unasked)));
        }
        if let Some(interrupt) = measured.interrupt {
            let seconds = |seconds: f64| numbers::time(seconds * 1e6);
            let (after, of) = (seconds(self.throughput.seconds), seconds(plan.duration.as_secs_f64()));
            warnings.push(format!("interrupted by {} after {after} of {of}", interrupt.name()));
        } else if self.has_no_answer() && connections.not_made < connections.asked {
            warnings.push(format!(
                "nothing was measured: no message was answered within {}",
                numbers::time(self.throughput.seconds * 1e6)
            ));
        }
        if measured.is_silent {
            warnings.push(match plan.timeout.as_secs() {
                u64::MAX => "nothing was answered any more".to_owned(),
                _ => format!("nothing was answered any more for {:?}", plan.timeout),
            });
        }
        if script.depends_on_reads() && messages.wrong > 0 {
            warnings.push(format!(
                "{:?} answers what one read of a raw stream brings, and what that is, is up to the network; \
                 with --frame here and frame= at the server every message is one",
                plan.expect
            ));
        }
        self.warnings.extend(warnings);
    }
}

impl Messages {
    /// Where nothing is lost and nothing comes twice, an answer that nobody asked for is a wrong one.
    fn unasked_streams(&self, measured: &Measured) -> u64 {
        if measured.is_datagram { 0 } else { self.unasked }
    }
}

impl Generator {
    fn of(plan: &resay_load::Plan, measured: &Measured) -> Generator {
        let late = measured.tally.lateness();
        let schedule = plan.pace.rate().map(|_| Schedule {
            late_p50_us: us(late.p50),
            late_p99_us: us(late.p99),
            late_max_us: us(late.max),
            late_over_1ms: late.over_1ms,
        });
        let threads: Vec<_> = measured
            .threads
            .iter()
            .map(|busy| Thread { cpu_s: busy.cpu.as_secs_f64(), busy: busy.share })
            .collect();
        let is_limit = match schedule {
            Some(schedule) => schedule.late_over_1ms > LATE_SHARE,
            None => threads.iter().any(|thread| thread.busy >= BUSY),
        };
        Generator { is_limit, threads, schedule }
    }
}

impl Latency {
    fn of(latency: &Latencies) -> Latency {
        let at = |quantile: f64| us(latency.at(quantile));
        let percentiles = latency.curve(TICKS_PER_HALVING).into_iter().map(|point| Percentile {
            percentile: point.quantile * 100.0,
            us: us(point.ns),
            count: point.count,
        });
        Latency {
            count: latency.count(),
            min: us(latency.min()),
            mean: latency.mean() / 1000.0,
            stdev: latency.stdev() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(latency.max()),
            percentiles: percentiles.collect(),
            histogram: bins(latency),
        }
    }
}

/// Bars whose widths grow by one factor, from the shortest latency to the longest, so that they are equally wide on a
/// logarithmic axis.
fn bins(latency: &Latencies) -> Vec<Bin> {
    if latency.count() == 0 {
        return Vec::new();
    }
    let (from, to) = (latency.min().max(1) as f64, latency.max().max(1) as f64 * 1.001);
    let factor = (to / from).powf(1.0 / BINS as f64).max(1.000_1);
    let edge = |index: usize| from * factor.powi(index as i32);
    let mut bins: Vec<Bin> = (0..BINS)
        .map(|index| Bin { from_us: edge(index) / 1000.0, to_us: edge(index + 1) / 1000.0, count: 0 })
        .collect();
    for (ns, count) in latency.counts() {
        let place = ((ns as f64 / from).ln() / factor.ln()) as usize;
        if let Some(bin) = bins.get_mut(place.min(BINS - 1)) {
            bin.count += count;
        }
    }
    bins
}

fn intervals(measured: &Measured) -> Vec<Interval> {
    let span = measured.span;
    let intervals = measured.tally.intervals.iter().enumerate();
    intervals
        .map(|(index, interval)| {
            let from = index as u64 * span.interval;
            let to = (from + span.interval).min(span.end - span.begin);
            let seconds = (to - from) as f64 / 1e9;
            let at = |quantile: f64| interval.latency_at(quantile).map(us);
            Interval {
                from_s: from as f64 / 1e9,
                to_s: to as f64 / 1e9,
                messages: interval.answers,
                messages_per_s: interval.answers as f64 / seconds,
                answer_bytes_per_s: interval.answer_bytes as f64 / seconds,
                p50_us: at(0.5),
                p99_us: at(0.99),
                max_us: interval.latency_max().map(us),
            }
        })
        .collect()
}

impl FirstWrong {
    fn of(wrong: &Wrong) -> FirstWrong {
        FirstWrong {
            connection: wrong.connection,
            message: wrong.message,
            offset: wrong.offset,
            connection_offset: wrong.connection_offset,
            expected_bytes: wrong.expected_bytes,
            got_bytes: wrong.got_bytes,
            shown_from: wrong.shown_from,
            expected: wrong.expected.escape_ascii().to_string(),
            got: wrong.got.escape_ascii().to_string(),
        }
    }
}
