//! The load: closed loops on one thread. So many messages are in flight, no more; each answer is read, compared with what
//! was sent, and replaced by the next message. Streams and datagrams are loaded by the generator of `resay bench`; what it
//! cannot do is here: connections that end, and connections that do nothing.

mod connect;
mod idle;
mod pattern;
mod sample;
mod steady;

use std::error::Error;
use std::time::Duration;

use crate::running::Running;
use crate::workload::{Shape, Workload};

pub(crate) use idle::{IDLE_BYTES, Memory, idle};
pub(crate) use sample::Sample;

/// Loads a server: `warm_up`, then `measured`. `shouts`: answers are in capitals.
pub(crate) fn run(
    workload: &Workload,
    server: &Running,
    shouts: bool,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let kind = workload.kind;
    let load = match workload.shape {
        Shape::Connect { at_once, message_bytes } => {
            return connect::run(at_once, message_bytes, shouts, server, (warm_up, measured));
        }
        Shape::Stream { connections, message_bytes, pipeline } => {
            steady::Load { kind, connections, message_bytes, pipeline, runs: false, shouts }
        }
        Shape::Datagrams { sockets, datagram_bytes, window, runs } => steady::Load {
            kind,
            connections: sockets,
            message_bytes: datagram_bytes,
            pipeline: window,
            runs,
            shouts,
        },
    };
    steady::run(load, server, warm_up, measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use crate::workload::Kind;
    use resay::Engine;

    const MESSAGES: u64 = 50;
    const MEASURED: Duration = Duration::from_millis(100);

    fn engine(url: &str, chain: &str) -> (Engine, Place) {
        let builder = Engine::builder().listen(url).unwrap();
        let engine = builder.chain(chain).unwrap().start().unwrap();
        let urls = engine.urls();
        let (_, address) = urls[0].split_once("://").unwrap();
        let place = Place::Internet(address.parse().unwrap());
        (engine, place)
    }

    /// What was wrong with an answer.
    fn connects(place: &Place, shouts: bool) -> Result<(), String> {
        let mut load = connect::Load::begin(2, 64, shouts, place).unwrap();
        while load.times.len() < MESSAGES {
            load.turn().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// How many were answered within the measured time, or what was wrong with an answer.
    fn steady(place: &Place, kind: Kind, runs: bool, shouts: bool) -> Result<u64, String> {
        let load = steady::Load { kind, connections: 2, message_bytes: 64, pipeline: 8, runs, shouts };
        let measured = steady::measure(load, &place.url(kind), &|| Some(0), Duration::ZERO, MEASURED);
        let (report, _) = measured.map_err(|error| error.to_string())?;
        assert_eq!(report.tally.counts.asked, report.tally.counts.answered + report.tally.counts.lost);
        Ok(report.tally.counts.answered)
    }

    #[test]
    fn every_load_is_answered() {
        let (_tcp, tcp) = engine("tcp://127.0.0.1:0", "");
        let (_udp, udp) = engine("udp://127.0.0.1:0", "uppercase");
        assert_eq!(connects(&tcp, false), Ok(()));
        assert!(steady(&tcp, Kind::Tcp, false, false).unwrap() > MESSAGES);
        for runs in [false, true] {
            assert!(steady(&udp, Kind::Udp, runs, true).unwrap() > MESSAGES, "{runs}");
        }
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let (_tcp, tcp) = engine("tcp://127.0.0.1:0", "rot13");
        assert!(connects(&tcp, false).unwrap_err().ends_with("a wrong answer"));
        assert_eq!(steady(&tcp, Kind::Tcp, false, false).unwrap_err(), "a wrong answer of 64 bytes");
        let (_udp, udp) = engine("udp://127.0.0.1:0", "truncate:at=20");
        for runs in [false, true] {
            let wrong = steady(&udp, Kind::Udp, runs, false).unwrap_err();
            assert_eq!(wrong, "a wrong answer of 20 bytes", "{runs}");
        }
    }
}
