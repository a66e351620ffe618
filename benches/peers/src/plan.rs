//! The command line, and the rounds.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::flame;
use crate::load::{self, Sample};
use crate::peer::{Peer, Setting};
use crate::report;
use crate::results::{Cell, Pass, Results};
use crate::running::Running;
use crate::sys;
use crate::workload::{Kind, Workload};

pub(crate) const USAGE: &str =
    "usage: peers run BUILT [--quick] [--rounds N] [--seconds S] [--idle CONNECTIONS] [--only TEXT]...
                      [--servers A,B,...] [--server-core N] [--load-core N] [--out DIR]
       peers serve VARIANT tcp|unix|udp PORT|PATH

  --only TEXT     workloads whose name contains TEXT; memory and flame are among them
  --servers A,B   no others
  --out DIR       where the page goes; otherwise to docs/, and beside BUILT where --only or --servers leave things out";

const WARM_UP_MAX: Duration = Duration::from_millis(150);
const MEMORY: &str = "memory";
const FLAME: &str = "flame";

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    rounds: usize,
    measured: Duration,
    idle_connections: usize,
    only: Vec<String>,
    quick: bool,
    servers: Vec<&'static Peer>,
    server_core: usize,
    load_core: usize,
    out: Option<PathBuf>,
    is_narrowed: bool,
    setting: Setting,
    arguments: String,
}

impl Plan {
    pub(crate) fn read(built: &str, arguments: &[String]) -> Result<Plan, Box<dyn Error>> {
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("servers");
        let descriptors_max = sys::raise_descriptor_limit()?;
        let mut plan = Plan {
            rounds: 5,
            measured: Duration::from_millis(200),
            idle_connections: 9000,
            only: Vec::new(),
            quick: false,
            servers: Peer::ALL.iter().collect(),
            server_core: 0,
            load_core: 1,
            out: None,
            is_narrowed: false,
            setting: Setting { built: built.into(), sources, descriptors_max },
            arguments: String::new(),
        };
        // Where the page goes is nobody's concern who reads it.
        let (mut words, mut said) = (arguments.iter(), Vec::new());
        while let Some(word) = words.next() {
            match word.as_str() {
                "--out" => drop(words.next()),
                word => said.push(word),
            }
        }
        plan.arguments = said.join(" ");
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => {
                    plan.quick = true;
                    (plan.rounds, plan.measured) = (3, Duration::from_millis(120));
                    plan.idle_connections = 1000;
                }
                "--rounds" => plan.rounds = value()?.parse()?,
                "--seconds" => plan.measured = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--idle" => plan.idle_connections = value()?.parse()?,
                "--only" => plan.only.push(known_workload(value()?)?),
                "--servers" => {
                    plan.servers = value()?.split(',').map(known_peer).collect::<Result<_, _>>()?;
                    plan.is_narrowed = true;
                }
                "--server-core" => plan.server_core = value()?.parse()?,
                "--load-core" => plan.load_core = value()?.parse()?,
                "--out" => plan.out = Some(value()?.into()),
                other => return Err(format!("what is {other:?}?\n{USAGE}").into()),
            }
        }
        plan.is_narrowed |= !plan.only.is_empty();
        if plan.rounds == 0 || plan.measured.is_zero() || plan.idle_connections == 0 {
            return Err("there must be a round, a time and a connection".into());
        }
        Ok(plan)
    }

    /// Measures everything, and writes the page.
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        let mut results = Results {
            rounds: self.rounds,
            measured: self.measured,
            cores: (self.server_core, self.load_core),
            arguments: self.arguments.clone(),
            cells: Vec::new(),
            memory: Vec::new(),
            present: Vec::new(),
            left_out: Vec::new(),
            flame: Err("it was not asked for".to_owned()),
        };
        for peer in &self.servers {
            match peer.missing(&self.setting) {
                None => results.present.push((peer, peer.version(&self.setting))),
                Some(reason) => {
                    println!("{peer} is left out: {reason}");
                    results.left_out.push((peer, reason));
                }
            }
        }
        let has_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > self.load_core);
        for workload in Workload::ALL.iter().filter(|workload| self.wants(workload)) {
            self.measure(workload, Pass::Cost, &mut results)?;
            if workload.is_timed(self.quick && self.only.is_empty()) && has_cores {
                self.measure(workload, Pass::Time, &mut results)?;
            }
        }
        if self.wants_also(MEMORY) {
            self.measure_memory(&mut results)?;
        }
        if self.wants_also(FLAME) {
            results.flame = flame::draw(&self.setting, self.server_core, self.load_core)
                .map_err(|error| error.to_string());
        }
        eprintln!("\r{:60}", "");
        let docs = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let out = match &self.out {
            Some(out) => out.clone(),
            None if self.is_narrowed => self.setting.built.clone(),
            None => docs().canonicalize()?,
        };
        println!("{}", report::summary(&results));
        let page = report::write(&results, &out)?;
        println!("{} after {:.0} s", page.display(), begin.elapsed().as_secs_f64());
        Ok(())
    }

    fn wants(&self, workload: &Workload) -> bool {
        if self.only.is_empty() {
            workload.quick || !self.quick
        } else {
            self.only.iter().any(|text| workload.name.contains(text.as_str()))
        }
    }

    /// What is not a workload, but named like one.
    fn wants_also(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text))
    }

    fn measure(
        &self,
        workload: &'static Workload,
        pass: Pass,
        results: &mut Results,
    ) -> Result<(), Box<dyn Error>> {
        sys::pin(if pass == Pass::Cost { self.server_core } else { self.load_core })?;
        let mut cells: Vec<Cell> = results
            .present
            .iter()
            .filter(|(peer, _)| peer.refuses(workload).is_none())
            .map(|(peer, _)| Cell { peer, workload, pass, samples: Vec::new(), failure: None })
            .collect();
        for round in 0..self.rounds {
            // Nobody always comes after the same one.
            let count = cells.len();
            for turn in 0..count {
                let cell = &mut cells[(turn + round * count / self.rounds) % count];
                if cell.failure.is_some() {
                    continue;
                }
                let what = format!("{} {pass:?} {}/{} {}", workload.name, round + 1, self.rounds, cell.peer);
                eprint!("\r{what:60}");
                std::io::stderr().flush()?;
                match self.sample(cell) {
                    Ok(sample) => cell.samples.push(sample),
                    Err(error) => {
                        eprintln!("\r{what}: {error}");
                        cell.failure = Some(error.to_string());
                    }
                }
            }
        }
        results.cells.extend(cells);
        Ok(())
    }

    fn sample(&self, cell: &Cell) -> Result<Sample, Box<dyn Error>> {
        let workload = cell.workload;
        let bytes = workload.message_bytes();
        let start = || Running::start(cell.peer, &self.setting, workload.kind, bytes, self.server_core);
        // Somebody may have taken the port that was free a moment ago.
        let running = start().or_else(|_| start())?;
        let warm_up = (self.measured / 3).min(WARM_UP_MAX);
        load::run(workload, &running, cell.peer.shouts(), warm_up, self.measured)
            .map_err(|error| format!("{error}{}", running.said()).into())
    }

    fn measure_memory(&self, results: &mut Results) -> Result<(), Box<dyn Error>> {
        sys::pin(self.load_core).or_else(|_| sys::pin(self.server_core))?;
        for (peer, _) in &results.present {
            let count = peer.idle_connections(&self.setting, self.idle_connections);
            if !peer.serves(Kind::Tcp) {
                continue;
            }
            eprint!("\r{:60}", format!("{MEMORY} {peer}"));
            std::io::stderr().flush()?;
            let memory = Running::start(peer, &self.setting, Kind::Tcp, load::IDLE_BYTES, self.server_core)
                .and_then(|running| {
                    load::idle(&running, count).map_err(|error| format!("{error}{}", running.said()).into())
                });
            if let Err(error) = &memory {
                eprintln!("\r{MEMORY} {peer}: {error}");
            }
            results.memory.push((peer, memory.map_err(|error| error.to_string())));
        }
        Ok(())
    }
}

fn known_workload(text: &str) -> Result<String, String> {
    if [MEMORY, FLAME].iter().any(|name| name.contains(text))
        || Workload::ALL.iter().any(|workload| workload.name.contains(text))
    {
        return Ok(text.to_owned());
    }
    let names: Vec<_> = Workload::ALL.iter().map(|workload| workload.name).chain([MEMORY, FLAME]).collect();
    Err(format!("there is no workload like {text:?}; there are {}", names.join(", ")))
}

fn known_peer(name: &str) -> Result<&'static Peer, String> {
    Peer::ALL.iter().find(|peer| peer.name == name).ok_or_else(|| {
        let names: Vec<_> = Peer::ALL.iter().map(|peer| peer.name).collect();
        format!("there is no server {name:?}; there are {}", names.join(", "))
    })
}
