//! What a comparison of chains came to: as a document, text, CSV and a page.

use resay_measure::{escaped, median};
use serde::Serialize;

use super::chart::{self, Axis, Row};
use super::{About, Outcome, csv, html, numbers};
use crate::bench::measure::Measured;
use crate::exit::{Exit, Failure};

/// Chains beside each other.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    #[serde(flatten)]
    about: About,
    cores: Cores,
    server: ServerSettings,
    rounds: usize,
    chains: Vec<Chain>,
    pub(crate) warnings: Vec<String>,
    exit_status: u8,
}

/// Where the servers and the load ran.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cores {
    pub(crate) mode: &'static str,
    /// None: wherever the system put them.
    pub(crate) server: Option<usize>,
    pub(crate) load: Option<usize>,
}

#[derive(Debug, Clone, Serialize)]
struct ServerSettings {
    backend: String,
    threads: usize,
}

/// What one chain did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Chain {
    chain: String,
    /// None: the system does not tell.
    cpu_us_per_message: Option<Figure>,
    messages_per_s: Figure,
    /// None: nothing was answered in any round.
    p50_us: Option<Figure>,
    p99_us: Option<Figure>,
    rounds: Vec<Round>,
}

/// What one chain did in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Round {
    /// Processor time of the server; none: the system does not tell, or nothing was answered.
    pub(crate) cpu_us_per_message: Option<f64>,
    pub(crate) messages_per_s: f64,
    /// None: nothing was answered.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Round {
    pub(crate) fn of(result: &Outcome, measured: &Measured) -> Round {
        let cost = measured.server.filter(|cost| cost.answers > 0);
        let latency = Some(&result.latency_us).filter(|_| result.messages.answered > 0);
        Round {
            cpu_us_per_message: cost.map(|cost| cost.cpu_ns as f64 / 1000.0 / cost.answers as f64),
            messages_per_s: result.throughput.messages_per_s,
            p50_us: latency.map(|latency| latency.p50),
            p99_us: latency.map(|latency| latency.p99),
        }
    }

    /// A figure is missing, or says nothing, because nothing was answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages_per_s == 0.0 || self.p50_us.is_none()
    }
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figure {
    median: f64,
    min: f64,
    max: f64,
    /// The median of the rounds' ratios to the first chain; 1 for that itself.
    ratio_to_first: f64,
    verdict: Verdict,
    /// How many rounds have a ratio, and how often equal chains have such ratios.
    #[serde(skip)]
    ratios: usize,
    #[serde(skip)]
    chance: f64,
}

/// Whether a chain differs from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    First,
    /// So many rounds agree about the direction that chance hardly does, see [`FALSE_TABLES_MAX`].
    Differs,
    WithinTheNoise,
    /// With fewer rounds chance agrees too often.
    TooFewRounds,
}

/// Of the comparisons of equal chains, so many may show a difference anywhere in their table.
const FALSE_TABLES_MAX: f64 = 0.05;

/// The sign test: how often rounds that differ by chance alone agree as well as these do, in either direction.
fn chance(ratios: &[f64]) -> f64 {
    let (above, below) = (
        ratios.iter().filter(|&&ratio| ratio > 1.0).count(),
        ratios.iter().filter(|&&ratio| ratio < 1.0).count(),
    );
    let rounds = above + below;
    let mut ways = 1.0;
    let mut sum = 0.0;
    for k in 0..=above.min(below) {
        sum += ways;
        ways *= (rounds - k) as f64 / (k + 1) as f64;
    }
    (2.0 * sum / 2f64.powi(rounds as i32)).min(1.0)
}

/// Decides about all ratios of a table at once, for each of them is a chance of its own to be wrong: by Holm's method,
/// which holds however the figures depend on each other.
fn decide(mut figures: Vec<&mut Figure>) {
    figures.sort_by(|a, b| a.chance.total_cmp(&b.chance));
    let count = figures.len();
    let mut agrees = true;
    for (rank, figure) in figures.into_iter().enumerate() {
        agrees &= figure.chance <= FALSE_TABLES_MAX / (count - rank) as f64;
        // If all of its rounds agreed, and it came first.
        let least = 2.0 / 2f64.powi(figure.ratios as i32);
        figure.verdict = if agrees {
            Verdict::Differs
        } else if least > FALSE_TABLES_MAX / count as f64 {
            Verdict::TooFewRounds
        } else {
            Verdict::WithinTheNoise
        };
    }
}

impl Figure {
    /// Of the rounds that have a figure, which `first` must have as well for a ratio; `None`: no round has one. What the
    /// ratios mean, [`decide`] says.
    fn of(values: &[Option<f64>], first: &[Option<f64>]) -> Option<Figure> {
        let ratios: Vec<f64> = values
            .iter()
            .zip(first)
            .filter_map(|(value, first)| Some((*value)? / first.filter(|first| *first > 0.0)?))
            .collect();
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        (!known.is_empty()).then(|| Figure {
            median: median(&known).unwrap_or(0.0),
            min: known.iter().copied().fold(f64::INFINITY, f64::min),
            max: known.iter().copied().fold(0.0, f64::max),
            ratio_to_first: median(&ratios).unwrap_or(0.0),
            verdict: Verdict::First,
            ratios: ratios.len(),
            chance: chance(&ratios),
        })
    }

    /// Of no rounds.
    const NONE: Figure = Figure {
        median: 0.0,
        min: 0.0,
        max: 0.0,
        ratio_to_first: 0.0,
        verdict: Verdict::First,
        ratios: 0,
        chance: 1.0,
    };

    fn told(&self) -> String {
        match self.verdict {
            Verdict::First => String::new(),
            Verdict::Differs => format!("× {:.3}", self.ratio_to_first),
            Verdict::WithinTheNoise => format!("× {:.3}, within the noise", self.ratio_to_first),
            Verdict::TooFewRounds => format!("× {:.3}, too few rounds to tell", self.ratio_to_first),
        }
    }
}

impl Chain {
    /// The chains with their rounds, compared with the first.
    pub(crate) fn all(chains: Vec<(String, Vec<Round>)>) -> Vec<Chain> {
        let first = chains.first().map(|(_, rounds)| rounds.clone()).unwrap_or_default();
        let each = chains.into_iter().map(|(chain, rounds)| {
            let figure = |of: fn(&Round) -> Option<f64>| {
                let [mine, theirs] =
                    [&rounds, &first].map(|rounds| rounds.iter().map(of).collect::<Vec<_>>());
                Figure::of(&mine, &theirs)
            };
            Chain {
                chain,
                cpu_us_per_message: figure(|round| round.cpu_us_per_message),
                messages_per_s: figure(|round| Some(round.messages_per_s)).unwrap_or(Figure::NONE),
                p50_us: figure(|round| round.p50_us),
                p99_us: figure(|round| round.p99_us),
                rounds,
            }
        });
        let mut all: Vec<Chain> = each.collect();
        decide(all.iter_mut().skip(1).flat_map(Chain::figures).collect());
        all
    }

    fn figures(&mut self) -> impl Iterator<Item = &mut Figure> {
        let known = [&mut self.cpu_us_per_message, &mut self.p50_us, &mut self.p99_us];
        known.into_iter().flatten().chain([&mut self.messages_per_s])
    }
}

impl Comparison {
    pub(crate) fn new(
        about: About,
        cores: Cores,
        backend: String,
        threads: usize,
        chains: Vec<Chain>,
        warnings: Vec<String>,
        exit: Exit,
    ) -> Comparison {
        Comparison {
            about,
            cores,
            server: ServerSettings { backend, threads },
            rounds: chains.first().map_or(0, |chain| chain.rounds.len()),
            chains,
            warnings,
            exit_status: exit as u8,
        }
    }

    /// What there is to tell where nothing could be compared.
    pub(crate) fn nothing(about: About, failure: &Failure) -> Comparison {
        let cores = Cores { mode: "free", server: None, load: None };
        let warnings = vec![failure.text().to_owned()];
        Comparison::new(about, cores, String::new(), 0, Vec::new(), warnings, failure.exit)
    }

    fn cores_line(&self) -> String {
        match (self.cores.server, self.cores.load) {
            (Some(server), Some(load)) if server == load => format!("servers and load on core {server}"),
            (Some(server), Some(load)) => format!("servers on core {server}, load on core {load}"),
            _ => "servers and load wherever the system puts them".to_owned(),
        }
    }

    fn rounds_line(&self) -> String {
        let settings = &self.about.settings;
        let each = numbers::time(settings.duration_s * 1e6);
        let rounds = if self.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", self.rounds) };
        format!("{rounds} of {each} a chain, in turn; medians, and from the least to the most")
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let about = &self.about;
        let mut lines = vec![
            format!("load         {}, over {}", about.settings.line(), about.settings.transport),
            format!("machine      {}; {}", about.machine.line(), self.cores_line()),
            format!("rounds       {}", self.rounds_line()),
        ];
        let width = self.chains.iter().map(|chain| chain.chain.chars().count()).max().unwrap_or(0).max(5);
        type Of = fn(&Chain) -> Option<Figure>;
        type Show = fn(f64) -> String;
        let groups: [(&str, Of, Show); 4] = [
            ("server CPU a message, µs", |chain| chain.cpu_us_per_message, numbers::short),
            ("messages a second", |chain| Some(chain.messages_per_s), numbers::whole),
            ("p50 latency", |chain| chain.p50_us, numbers::time),
            ("p99 latency", |chain| chain.p99_us, numbers::time),
        ];
        for (name, of, show) in groups {
            lines.push(String::new());
            lines.push(name.to_owned());
            for chain in &self.chains {
                let line = match of(chain) {
                    None => "not known".to_owned(),
                    Some(figure) => {
                        let range = format!("{} – {}", show(figure.min), show(figure.max));
                        format!("{:>10}   {range:<24} {}", show(figure.median), figure.told())
                    }
                };
                lines.push(format!("  {:<width$} {}", chain.chain, line).trim_end().to_owned());
            }
        }
        lines.join("\n") + "\n"
    }

    /// A line a chain and round.
    pub(crate) fn csv(&self) -> String {
        let settings = &self.about.settings;
        let rows: Vec<_> = self
            .chains
            .iter()
            .flat_map(|chain| {
                chain.rounds.iter().enumerate().map(move |(number, round)| (chain, number, round))
            })
            .map(|(chain, number, round)| {
                vec![
                    ("date", self.about.date.clone()),
                    ("chain", chain.chain.clone()),
                    ("round", (number + 1).to_string()),
                    ("transport", settings.transport.to_owned()),
                    ("cores", self.cores.mode.to_owned()),
                    ("connections", settings.connections.to_string()),
                    ("message_bytes", settings.message_bytes.to_string()),
                    ("duration_s", settings.duration_s.to_string()),
                    ("cpu_us_per_message", round.cpu_us_per_message.map(csv::micros).unwrap_or_default()),
                    ("messages_per_s", format!("{:.1}", round.messages_per_s)),
                    ("p50_us", round.p50_us.map(csv::micros).unwrap_or_default()),
                    ("p99_us", round.p99_us.map(csv::micros).unwrap_or_default()),
                ]
            })
            .collect();
        csv::table(&rows)
    }

    /// As one page.
    pub(crate) fn html(&self) -> String {
        let about = &self.about;
        let names: Vec<&str> = self.chains.iter().map(|chain| chain.chain.as_str()).collect();
        let title = names.join(" · ");
        let line =
            format!("{} · over {} · {}", about.settings.line(), about.settings.transport, self.cores_line());
        let charts = [
            self.chart(
                "Server CPU a message",
                "µs",
                numbers::rate,
                numbers::short,
                |round| round.cpu_us_per_message,
                |chain| chain.cpu_us_per_message,
            ),
            self.chart(
                "Messages a second",
                "messages a second",
                numbers::rate,
                numbers::rate,
                |round| Some(round.messages_per_s),
                |chain| Some(chain.messages_per_s),
            ),
            self.chart(
                "p50 latency",
                "latency",
                numbers::axis_time,
                numbers::time,
                |round| round.p50_us,
                |chain| chain.p50_us,
            ),
            self.chart(
                "p99 latency",
                "latency",
                numbers::axis_time,
                numbers::time,
                |round| round.p99_us,
                |chain| chain.p99_us,
            ),
        ];
        let body = [
            html::header(&title, &line, about),
            html::tiles(&self.tiles()),
            html::warnings(&self.warnings),
            format!("<div class=\"charts\">{}</div>\n", charts.concat()),
            format!("<div class=\"tables\">{}{}</div>", self.table(), html::circumstances(about)),
        ];
        html::page(&format!("{title} – resay bench"), &body.concat())
    }

    fn tiles(&self) -> Vec<(String, String)> {
        let tile = |chain: &Chain| match chain.cpu_us_per_message {
            Some(figure) => {
                (format!("{} µs", numbers::short(figure.median)), format!("{}: CPU a message", chain.chain))
            }
            None => (
                format!("{}/s", numbers::whole(chain.messages_per_s.median)),
                format!("{}: messages", chain.chain),
            ),
        };
        self.chains.iter().map(tile).collect()
    }

    fn chart(
        &self,
        title: &str,
        label: &'static str,
        at_axis: fn(f64) -> String,
        told: fn(f64) -> String,
        value: fn(&Round) -> Option<f64>,
        figure: fn(&Chain) -> Option<Figure>,
    ) -> String {
        let rows: Vec<Row> = self
            .chains
            .iter()
            .filter_map(|chain| {
                let figure = figure(chain)?;
                let shown = told(figure.median);
                let ratio = match figure.verdict {
                    Verdict::First => String::new(),
                    Verdict::Differs => format!(" · × {:.3}", figure.ratio_to_first),
                    Verdict::WithinTheNoise | Verdict::TooFewRounds => {
                        format!(" · (× {:.3})", figure.ratio_to_first)
                    }
                };
                Some(Row {
                    name: chain.chain.clone(),
                    values: chain.rounds.iter().filter_map(value).collect(),
                    median: figure.median,
                    told: shown + &ratio,
                })
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        let most = rows.iter().flat_map(|row| row.values.iter().copied()).fold(0.0, f64::max);
        let axis = Axis::linear(most, label, at_axis);
        let line = "a dot a round, a stroke for the median; a ratio in parentheses may be chance";
        html::section(title, line, &chart::ranges(title, &axis, &rows))
    }

    fn table(&self) -> String {
        let cell = |figure: Option<Figure>, show: fn(f64) -> String| match figure {
            None => "<td>not known</td>".to_owned(),
            Some(figure) => {
                format!("<td>{}<br><small>{}</small></td>", show(figure.median), escaped(&figure.told()))
            }
        };
        let rows: String = self
            .chains
            .iter()
            .map(|chain| {
                format!(
                    "<tr><td>{}</td>{}{}{}{}</tr>",
                    html::code(&chain.chain),
                    cell(chain.cpu_us_per_message, numbers::short),
                    cell(Some(chain.messages_per_s), numbers::whole),
                    cell(chain.p50_us, numbers::time),
                    cell(chain.p99_us, numbers::time),
                )
            })
            .collect();
        let table = format!(
            "<div class=\"scroll\"><table class=\"num\"><thead><tr><th>chain</th><th>CPU µs</th><th>messages/s</th>\
             <th>p50</th><th>p99</th></tr></thead><tbody>{rows}</tbody></table></div>"
        );
        html::section("Medians", &self.rounds_line(), &table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(ratios: &[&[f64]]) -> Vec<Verdict> {
        let figure = |ratios: &&[f64]| {
            let values: Vec<_> = ratios.iter().copied().map(Some).collect();
            Figure::of(&values, &vec![Some(1.0); ratios.len()]).unwrap()
        };
        let mut figures: Vec<_> = ratios.iter().map(figure).collect();
        decide(figures.iter_mut().collect());
        figures.into_iter().map(|figure| figure.verdict).collect()
    }

    #[test]
    fn a_difference_is_one_where_the_rounds_agree() {
        use Verdict::{Differs, TooFewRounds, WithinTheNoise};
        let (up, down, six, even) = ([1.1; 6], [0.9; 6], [1.1, 1.1, 0.9, 1.1, 1.1, 1.1], [1.0; 6]);
        assert_eq!(verdicts(&[&up]), [Differs]);
        assert_eq!(verdicts(&[&down]), [Differs]);
        assert_eq!(verdicts(&[&six]), [WithinTheNoise]);
        assert_eq!(verdicts(&[&even]), [WithinTheNoise]);
        assert_eq!(verdicts(&[&up[..5]]), [TooFewRounds]);
        // One of nine: 2 × (1 + 9) / 512 is little enough for one ratio, but not for two.
        let mut nine = [1.1; 9];
        nine[4] = 0.9;
        assert_eq!(verdicts(&[&nine]), [Differs]);
        assert_eq!(verdicts(&[&nine, &[1.0; 9]]), [WithinTheNoise; 2]);
        // What is certain makes the rest easier: the second is one of one that is left.
        assert_eq!(verdicts(&[&nine, &[1.1; 9]]), [Differs; 2]);
        // Four ratios take eight rounds.
        let eight = [1.1; 8];
        assert_eq!(verdicts(&[&eight[..7]; 4]), [TooFewRounds; 4]);
        assert_eq!(verdicts(&[&eight[..]; 4]), [Differs; 4]);
    }

    /// Numbers between 0 and 1 that look like chance (xorshift64, Marsaglia 2003).
    fn noise(state: &mut u64) -> f64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of so many comparisons, the share in whose table something differs: the chains but the first take `factor` times
    /// as long. `own`: how much of the noise is a figure's own, and not that of its round.
    fn share_of_differences(chains: usize, rounds: usize, factor: f64, own: f64, state: &mut u64) -> f64 {
        const TABLES: usize = 1000;
        let mut differing = 0;
        for _ in 0..TABLES {
            let chain = |number: usize, state: &mut u64| {
                let factor = if number == 0 { 1.0 } else { factor };
                let round = |_| {
                    let shared = noise(state);
                    let mut figure = || factor * (1.0 + 0.2 * (shared * (1.0 - own) + noise(state) * own));
                    Round {
                        cpu_us_per_message: Some(figure()),
                        messages_per_s: 1.0 / figure(),
                        p50_us: Some(figure()),
                        p99_us: Some(figure()),
                    }
                };
                (number.to_string(), (0..rounds).map(round).collect())
            };
            let mut all = Chain::all((0..chains).map(|number| chain(number, state)).collect());
            let differs =
                |chain: &mut Chain| chain.figures().any(|figure| figure.verdict == Verdict::Differs);
            differing += usize::from(all.iter_mut().any(differs));
        }
        differing as f64 / TABLES as f64
    }

    #[test]
    fn equal_chains_seldom_differ_in_any_figure_of_their_table() {
        let mut state = 20_240_229;
        for rounds in [5, 9, 10, 15, 30] {
            for (chains, own) in [(2, 1.0), (2, 0.1), (4, 0.5)] {
                let share = share_of_differences(chains, rounds, 1.0, own, &mut state);
                assert!(share <= FALSE_TABLES_MAX, "{chains} chains, {rounds} rounds, {own}: {share}");
            }
        }
    }

    #[test]
    fn chains_that_differ_are_found_to_differ() {
        let mut state = 20_240_301;
        for (chains, rounds) in [(2, 10), (4, 11)] {
            let share = share_of_differences(chains, rounds, 1.2, 1.0, &mut state);
            assert!(share > 0.95, "{chains} chains, {rounds} rounds: {share}");
        }
    }

    #[test]
    fn ratios_are_of_rounds_and_not_of_medians() {
        let round = |cpu: f64| Round {
            cpu_us_per_message: Some(cpu),
            messages_per_s: 1.0,
            p50_us: Some(1.0),
            p99_us: Some(1.0),
        };
        let first = vec![round(1.0), round(2.0), round(4.0)];
        let other = vec![round(2.0), round(4.0), round(4.0)];
        let chains = Chain::all(vec![("a".into(), first), ("b".into(), other)]);
        let figure = chains[1].cpu_us_per_message.unwrap();
        assert_eq!((figure.median, figure.ratio_to_first), (4.0, 2.0));
        assert_eq!(chains[0].cpu_us_per_message.unwrap().verdict, Verdict::First);
    }

    #[test]
    fn a_round_without_an_answer_counts_for_nothing_but_throughput() {
        let round = |figure: Option<f64>| Round {
            cpu_us_per_message: figure,
            messages_per_s: figure.unwrap_or(0.0),
            p50_us: figure,
            p99_us: figure,
        };
        let first = vec![round(Some(1.0)), round(None), round(Some(3.0))];
        let other = vec![round(Some(2.0)), round(Some(50.0)), round(None)];
        let none = vec![round(None); 3];
        let chains = Chain::all(vec![("a".into(), first), ("b".into(), other), ("c".into(), none)]);
        let [a, b, c] = chains.as_slice() else { panic!("{chains:?}") };
        for figure in [a.cpu_us_per_message, a.p50_us, a.p99_us].map(Option::unwrap) {
            assert_eq!((figure.median, figure.min, figure.max), (2.0, 1.0, 3.0));
        }
        // Only the first round has both.
        assert_eq!((b.p50_us.unwrap().median, b.p50_us.unwrap().ratio_to_first), (26.0, 2.0));
        assert_eq!(a.messages_per_s.min, 0.0);
        assert!(c.cpu_us_per_message.is_none() && c.p50_us.is_none());
        assert_eq!(c.messages_per_s.median, 0.0);
        assert!(round(None).is_empty() && !round(Some(1.0)).is_empty());
    }
}
