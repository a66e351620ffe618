//! The load: a closed loop on one thread. So many messages are in flight, no more; each answer is read, compared with
//! what was sent, and replaced by the next message. Streams are loaded by `resay bench`; what it cannot do is here:
//! connections that end, datagrams in batches and runs, and connections that do nothing.

mod connect;
mod datagram;
mod idle;
mod pattern;
mod sample;
mod stream;
mod turns;

use std::error::Error;
use std::time::{Duration, Instant};

use crate::running::Running;
use crate::workload::{Shape, Workload};
use turns::{Clock, Turns};

pub(crate) use idle::{IDLE_BYTES, Memory, idle};
pub(crate) use sample::Sample;

/// How often the clock is read for the end, in turns of the loop.
const TURNS_PER_LOOK: u32 = 8;

/// Loads a server: `warm_up`, then `measured`. `shouts`: answers are in capitals.
pub(crate) fn run(
    workload: &Workload,
    server: &Running,
    shouts: bool,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let mut clock = Clock::new()?;
    match workload.shape {
        Shape::Stream { connections, message_bytes, pipeline } => {
            let plan = stream::Plan { connections, message_bytes, pipeline, shouts };
            stream::run(plan, server, warm_up, measured)
        }
        Shape::Connect { at_once, message_bytes } => {
            let mut load = connect::Load::begin(at_once, message_bytes, shouts, &server.place, &mut clock)?;
            measure(&mut load, &mut clock, server, warm_up, measured)
        }
        Shape::Datagrams { sockets, datagram_bytes, window, runs } => {
            let plan = datagram::Plan { sockets, datagram_bytes, window, runs, shouts };
            let mut load = datagram::Load::begin(plan, &server.place, &mut clock)?;
            measure(&mut load, &mut clock, server, warm_up, measured)
        }
    }
}

fn measure(
    load: &mut impl Turns,
    clock: &mut Clock,
    server: &Running,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    turn_for(load, clock, warm_up)?;
    clock.times.reset();
    let (lost, cpu_ns, begin) = (load.lost(), server.cpu_time_ns()?, Instant::now());
    turn_for(load, clock, measured)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (lost, cpu_ns) = (load.lost().saturating_sub(lost), server.cpu_time_ns()?.saturating_sub(cpu_ns));
    let messages = clock.times.len();
    if messages == 0 {
        return Err("not one message was answered".into());
    }
    Ok(Sample {
        cpu_us: cpu_ns as f64 / 1000.0 / messages as f64,
        messages_per_s: messages as f64 / seconds,
        p50_us: clock.times.value_at_quantile(0.5) as f64 / 1000.0,
        p99_us: clock.times.value_at_quantile(0.99) as f64 / 1000.0,
        lost: lost as f64 / (lost + messages) as f64,
    })
}

fn turn_for(load: &mut impl Turns, clock: &mut Clock, time: Duration) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    loop {
        for _ in 0..TURNS_PER_LOOK {
            load.turn(clock)?;
        }
        if begin.elapsed() >= time {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use resay::Engine;

    const MESSAGES: u64 = 50;

    fn engine(url: &str, chain: &str) -> (Engine, Place) {
        let builder = Engine::builder().listen(url).unwrap();
        let engine = builder.chain(chain).unwrap().start().unwrap();
        let urls = engine.urls();
        let (_, address) = urls[0].split_once("://").unwrap();
        let place = Place::Internet(address.parse().unwrap());
        (engine, place)
    }

    /// Turns until so many messages are answered; what was wrong with an answer.
    fn turns(mut load: impl Turns, clock: &mut Clock) -> Result<(), String> {
        while clock.times.len() < MESSAGES {
            load.turn(clock).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn datagrams(place: &Place, runs: bool, shouts: bool) -> Result<(), String> {
        let mut clock = Clock::new().unwrap();
        let plan = datagram::Plan { sockets: 2, datagram_bytes: 64, window: 8, runs, shouts };
        turns(datagram::Load::begin(plan, place, &mut clock).unwrap(), &mut clock)
    }

    fn connects(place: &Place, shouts: bool) -> Result<(), String> {
        let mut clock = Clock::new().unwrap();
        turns(connect::Load::begin(2, 64, shouts, place, &mut clock).unwrap(), &mut clock)
    }

    #[test]
    fn every_load_is_answered() {
        let (_tcp, tcp) = engine("tcp://127.0.0.1:0", "");
        let (_udp, udp) = engine("udp://127.0.0.1:0", "uppercase");
        assert_eq!(connects(&tcp, false), Ok(()));
        for runs in [false, true] {
            assert_eq!(datagrams(&udp, runs, true), Ok(()));
        }
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let (_tcp, tcp) = engine("tcp://127.0.0.1:0", "rot13");
        let wrong = |result: Result<(), String>, what: &str| result.unwrap_err().ends_with(what);
        assert!(wrong(connects(&tcp, false), "a wrong answer"));
        let (_udp, udp) = engine("udp://127.0.0.1:0", "truncate:at=20");
        assert!(wrong(datagrams(&udp, false, false), "an answer of 20 bytes"));
    }
}
