//! The harness does as the engine does, and shows what came of it.
#![allow(clippy::unwrap_used)]

use core::time::Duration;
use resay_plugin::abi::{RESAY_E_UNSUPPORTED, RESAY_OK};
use resay_plugin::harness::{Answer, Harness, assert_refused};
use resay_plugin::{Call, Error, Io, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table, Transform};

/// Answers each byte with two of its own in a call of its own, held back one millisecond longer each time; a
/// message begins with the flags of the call, `B` where it begins a message.
struct Stammer;

impl Transform for Stammer {
    type Session = bool; // opened

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        setup.options.bool("loud")?;
        Ok(Stammer)
    }

    fn open(&self, call: Call<'_, bool>, peer: &Peer<'_>) -> Result<(), Error> {
        if peer.kind() == PeerKind::Other {
            return Err(Error::unsupported("who is that?"));
        }
        *call.session = true;
        Ok(())
    }
}

impl Process for Stammer {
    fn process(&self, call: Call<'_, bool>, io: &mut Io<'_>) -> Status {
        assert!(*call.session);
        let [byte, rest @ ..] = io.input() else { return Status::Ok };
        let mark = match (io.begins_message(), io.is_datagram()) {
            (true, true) => b'D',
            (true, false) => b'B',
            (false, _) => b'-',
        };
        if io.lacks_room(2) {
            return Status::MoreOut;
        }
        io.write(&[mark, *byte]);
        io.consume(1);
        io.delay(Duration::from_millis(rest.len() as u64));
        if rest.is_empty() { Status::Ok } else { Status::MoreOut }
    }
}

const OPTIONS: &[OptionSpec] = &[OptionSpec::bool(c"loud", c"shouts").or(c"0")];
static STAMMER: Table = Table::process::<Stammer>(c"stammer").options(OPTIONS).bound(2, 1, 0).build();
static UNBOUND: Table = Table::process::<Stammer>(c"unbound").options(OPTIONS).build();

fn stammer() -> Harness {
    Harness::new(&STAMMER, &[]).unwrap()
}

fn pieces(answer: &Answer) -> Vec<(&[u8], u64)> {
    answer.pieces.iter().map(|piece| (&piece.output[..], piece.delay.as_millis() as u64)).collect()
}

#[test]
fn a_piece_for_each_call() {
    let stammer = stammer();
    let answer = stammer.session().unwrap().message(b"abc");
    assert_eq!(pieces(&answer), [(&b"Ba"[..], 2), (b"-b", 1), (b"-c", 0)]);
    assert_eq!((answer.status, &answer.output[..], answer.delay.as_millis()), (RESAY_OK, &b"Ba-b-c"[..], 3));
}

#[test]
fn only_the_first_call_begins_a_message() {
    let stammer = stammer();
    let mut session = stammer.session().unwrap();
    assert_eq!(session.message(b"ab").output, b"Ba-b");
    assert_eq!(session.message(b"c").output, b"Bc");
    assert_eq!(session.datagram(b"de").output, b"Dd-e");
    assert_eq!(session.read(b"fg").output, b"-f-g", "a raw stream has no messages");
    // A call that only asks for room is the first one, too.
    let cramped = self::stammer().with_room(1);
    let answer = cramped.session().unwrap().message(b"a");
    assert_eq!(pieces(&answer), [(&b""[..], 0), (b"-a", 0)]);
}

#[test]
fn the_room_that_is_chosen() {
    struct Room;
    impl Transform for Room {
        type Session = ();
        fn create(_: &Setup<'_>) -> Result<Self, Error> {
            Ok(Room)
        }
    }
    impl Process for Room {
        fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
            io.take();
            let room = io.room();
            io.spare().fill(b'r');
            io.produce(room);
            Status::Ok
        }
    }
    static BOUND: Table = Table::process::<Room>(c"room").bound(1, 1, 3).build();
    static UNBOUND: Table = Table::process::<Room>(c"room").build();
    for room in [0, 1, 5, 1000] {
        for table in [&BOUND, &UNBOUND] {
            let harness = Harness::new(table, &[]).unwrap().with_room(room);
            assert_eq!(harness.message(b"ab").unwrap().len(), room);
        }
        // SAFETY: a table of a static; a table from elsewhere may rely on its bound.
        let raw = unsafe { Harness::from_raw(BOUND.raw(), &[]) }.unwrap().with_room(room);
        assert_eq!(raw.message(b"ab").unwrap().len(), room.max(5));
    }
    assert_eq!(Harness::new(&BOUND, &[]).unwrap().message(b"ab").unwrap().len(), 5);
}

#[test]
#[should_panic(expected = "RESAY_MORE_OUT without progress")]
fn no_progress_is_found() {
    struct Stuck;
    impl Transform for Stuck {
        type Session = ();
        fn create(_: &Setup<'_>) -> Result<Self, Error> {
            Ok(Stuck)
        }
    }
    impl Process for Stuck {
        fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
            if io.write_all(b"12") { Status::Ok } else { Status::MoreOut }
        }
    }
    static STUCK: Table = Table::process::<Stuck>(c"stuck").build();
    let _ = Harness::new(&STUCK, &[]).unwrap().with_room(1).message(b"");
}

#[test]
fn every_kind_of_peer() {
    let stammer = stammer();
    for (kind, expected) in
        [(PeerKind::Stream, b"Ba"), (PeerKind::Datagram, b"Da"), (PeerKind::Seqpacket, b"Ba")]
    {
        assert_eq!(stammer.session_with(kind).unwrap().message(b"a").output, expected, "{kind:?}");
    }
    let error = stammer.session_with(PeerKind::Other).unwrap_err();
    assert_eq!((error.status(), error.text()), (RESAY_E_UNSUPPORTED, "who is that?"));
}

#[test]
fn splits_and_refusals() {
    let unbound = Harness::new(&UNBOUND, &[]).unwrap();
    unbound.assert_splits(b"abcd", b"-a-b-c-d");
    unbound.with_room(0).assert_splits(b"abcd", b"-a-b-c-d");
    assert_refused(&UNBOUND, &[("loud", "2", "1, 0, true or false"), ("loud", "", "1, 0, true or false")]);
}

#[test]
#[should_panic(expected = "split at 0 and 0")]
fn a_wrong_answer_to_a_split_is_found() {
    stammer().assert_splits(b"ab", b"-a-B");
}

#[test]
#[should_panic(expected = "accepted")]
fn an_accepted_value_is_found() {
    assert_refused(&STAMMER, &[("loud", "1", "quiet")]);
}
