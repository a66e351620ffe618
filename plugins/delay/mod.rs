//! `delay`: answers are held back for a time, give or take a jitter.
//!
//! Each message draws a time of its own. In a stream the order stays, so an answer that is ready waits for those
//! before it; datagrams may overtake each other, as on a network. On a raw stream each read is a message.
//!
//! The same seed gives the n-th message of the instance the same time, whichever connection it comes from.

use core::time::Duration;
use resay_plugin::dice::{self, Dice, below};
use resay_plugin::{Call, Error, Io, OptionSpec, Process, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libdelay`.
pub static TABLE: Table = Table::process::<Delay>(c"delay")
    .version(resay_plugin::package_version!())
    .summary(c"answers are held back for a time")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const TIME: &str = "time";
const JITTER: &str = "jitter";
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::duration(c"time", c"how long an answer is held back"),
    OptionSpec::duration(c"jitter", c"up to so much more or less, each time equally likely; not over time")
        .or(c"0"),
    dice::SEED,
];

#[derive(Debug)]
struct Delay {
    shortest_us: u64,
    /// Of the times that a message may draw.
    range_us: u64,
    dice: Dice,
}

impl Transform for Delay {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let time_us = microseconds(setup.options.duration(TIME)?);
        let jitter_us = microseconds(setup.options.duration(JITTER)?);
        if jitter_us > time_us {
            return Err(setup.options.refused(JITTER, "at most as long as 'time'"));
        }
        Ok(Self {
            shortest_us: time_us - jitter_us,
            range_us: jitter_us.saturating_mul(2).saturating_add(1),
            dice: Dice::of(&setup.options, b"delay\0\0\0")?,
        })
    }
}

impl Process for Delay {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        if !io.write_all(input) {
            io.need(input.len());
            return Status::MoreOut;
        }
        io.consume(input.len());
        let more_us = below(self.range_us, self.dice.roll());
        io.delay(Duration::from_micros(self.shortest_us.saturating_add(more_us)));
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use core::time::Duration;
    use resay_plugin::harness::Harness;

    fn delays(options: &[(&str, &str)], n: usize) -> Vec<Duration> {
        let delay = Harness::new(&TABLE, options).unwrap();
        let mut session = delay.session().unwrap();
        let answers = (0..n).map(|n| session.message(&n.to_be_bytes()));
        let answers: Vec<_> = answers.collect();
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!((answer.status, &answer.output[..]), (0, &n.to_be_bytes()[..]));
        }
        answers.iter().map(|answer| answer.delay).collect()
    }

    #[test]
    fn without_jitter_all_wait_the_same() {
        assert_eq!(delays(&[("time", "20ms")], 3), [Duration::from_millis(20); 3]);
        assert_eq!(delays(&[("time", "0")], 2), [Duration::ZERO; 2]);
    }

    #[test]
    fn jitter_goes_both_ways_as_far_as_it_may() {
        let delays = delays(&[("time", "20us"), ("jitter", "5us")], 1000);
        let mut seen: Vec<_> = delays.iter().map(Duration::as_micros).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (15..=25).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| delays(&[("time", "20ms"), ("jitter", "20ms"), ("seed", seed)], 50);
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        assert_eq!(run("1"), delays(&[("time", "20ms"), ("jitter", "20ms")], 50));
    }

    #[test]
    fn a_recorded_run() {
        let us = delays(&[("time", "20ms"), ("jitter", "20ms"), ("seed", "7")], 8);
        let recorded = [13_856, 24_957, 37_414, 12_854, 21_673, 10_200, 7_245, 78];
        assert_eq!(us, recorded.map(Duration::from_micros));
    }

    #[test]
    fn asking_for_room_draws_no_time() {
        let options = [("time", "20ms"), ("jitter", "20ms")];
        let delay = Harness::new(&TABLE, &options).unwrap().with_room(3);
        let mut session = delay.session().unwrap();
        for time in delays(&options, 20) {
            let answer = session.message(b"12345678");
            assert_eq!(
                answer.pieces.iter().map(|piece| piece.delay).collect::<Vec<_>>(),
                [Duration::ZERO, time]
            );
        }
    }

    #[test]
    fn every_kind_of_message_but_the_end() {
        let delay = Harness::new(&TABLE, &[("time", "3s")]).unwrap();
        let mut session = delay.session().unwrap();
        let time = Duration::from_secs(3);
        assert_eq!(session.datagram(b"x").delay, time);
        assert_eq!(session.message(b"").delay, time);
        assert_eq!(session.read(&[7; 70_000]).delay, time);
        assert_eq!(session.end().delay, Duration::ZERO);
    }

    #[test]
    fn wrong_values_are_named() {
        for (options, expected) in [
            (&[][..], "option 'time' must be given"),
            (&[("time", "20")], "option 'time' is '20', but must be a duration such as 20ms (us, ms, s, m)"),
            (
                &[("time", "1ms"), ("jitter", "2ms")],
                "option 'jitter' is '2ms', but must be at most as long as 'time'",
            ),
            (&[("time", "1ms"), ("seed", "x")], "option 'seed' is 'x', but must be a whole number"),
        ] {
            assert_eq!(Harness::new(&TABLE, options).unwrap_err().text(), expected);
        }
    }
}
