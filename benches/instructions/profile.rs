//! Where the instructions of a message go.

use std::collections::HashMap;
use std::hash::Hash;

use crate::callgrind::{Counts, Tree};
use crate::load::Workload;
use crate::result::Result;

/// What is less than this is noise of starting.
const SHOWN_MIN: f64 = 0.05;

/// Prints the difference of both runs, over the messages between them.
pub(crate) fn print(counts: &Counts, workload: &Workload, lines_max: usize) -> Result<()> {
    let (shorter, longer) = (Tree::read(&counts.shorter)?, Tree::read(&counts.longer)?);
    let messages = workload.messages_between();
    println!("{}: {}", workload.name, workload.about);
    println!("{:.1} instructions a message, limit {}", counts.a_message(), workload.limit);
    let own = difference(&shorter.functions, &longer.functions, messages, |cost| cost.own);
    let inclusive = difference(&shorter.functions, &longer.functions, messages, |cost| cost.inclusive);
    let calls = difference(&shorter.functions, &longer.functions, messages, |cost| cost.calls);
    let find = |list: &[(String, f64)], name: &str| {
        list.iter().find(|(known, _)| known == name).map_or(0.0, |(_, value)| *value)
    };
    for (title, list) in [("by own instructions", &own), ("by inclusive instructions", &inclusive)] {
        println!("\n{title}, a message:\n{:>9} {:>9} {:>7}  function", "own", "inclusive", "calls");
        for (name, _) in list.iter().take(lines_max) {
            let (own, inclusive, calls) = (find(&own, name), find(&inclusive, name), find(&calls, name));
            println!("{own:>9.1} {inclusive:>9.1} {calls:>7.2}  {name}");
        }
    }
    let lines = difference(&shorter.lines, &longer.lines, messages, |cost| *cost);
    println!("\nby source line, a message; what is inlined counts where it is written:");
    for ((file, line), cost) in lines.iter().take(lines_max) {
        println!("{cost:>9.1}  {}:{line}", shortened(file));
    }
    println!("\nwith callers: callgrind_annotate --tree=both {}", counts.longer.display());
    Ok(())
}

/// The most first.
fn difference<K: Clone + Eq + Hash + Ord, V>(
    shorter: &HashMap<K, V>,
    longer: &HashMap<K, V>,
    messages: f64,
    cost: impl Fn(&V) -> f64,
) -> Vec<(K, f64)> {
    let each = |(key, value): (&K, &V)| {
        (key.clone(), (cost(value) - shorter.get(key).map_or(0.0, &cost)) / messages)
    };
    let mut list: Vec<_> = longer.iter().map(each).filter(|(_, value)| *value >= SHOWN_MIN).collect();
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list
}

/// From the package on: where sources are kept differs between machines.
fn shortened(file: &str) -> &str {
    let ours = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/"));
    ours.or_else(|| file.split_once("/registry/src/").map(|(_, rest)| rest)).unwrap_or(file)
}
