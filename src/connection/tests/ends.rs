//! Ends of connections, and what else happens seldom.

use super::*;

#[test]
fn why_a_socket_is_broken() {
    for (code, reason) in [
        (libc::EMSGSIZE, CloseReason::AnswerTooLong),
        (libc::ECONNRESET, CloseReason::PeerReset),
        (libc::EPIPE, CloseReason::PeerReset),
        (libc::ETIMEDOUT, CloseReason::PeerReset),
        (libc::ENOBUFS, CloseReason::SystemError),
    ] {
        assert_eq!(broken_by(&io::Error::from_raw_os_error(code)), reason, "{code}");
    }
}

#[test]
fn a_swap_to_the_same_chain_is_none() {
    let mut bench = Bench::new("uppercase", &[]);
    bench.step(Connection::swap);
    assert_eq!(bench.connection.poll_timeout(&bench.limits), Moment::NEVER);
    bench.receive(b"a");
    assert_eq!(bench.received(), b"A");
}

/// A fault that a step finds in something else than a message.
#[test]
fn a_fault_of_our_own_ends_whatever_is_in_hand() {
    let mut bench = Bench::new("uppercase", &[]);
    bench.receive(b"a");
    bench.step(|connection, cx| {
        bug::found_in_release("no fault");
        connection.timeout(0, cx)
    });
    assert_eq!(bench.closed, Some((CloseReason::SystemError, Close::Reset)));
    assert!(bug::take().is_some());
    bench.assert_balance();
}

/// What has arrived is answered before a drain ends the connection.
#[test]
fn a_drained_connection_answers_what_it_has_first() {
    let mut bench = Bench::new("hex", &[("frame", "lines"), ("high_water", "1k")]);
    bench.window = 0;
    bench.receive(&b"a\n".repeat(1000));
    bench.step(Connection::drained);
    assert!(!bench.has_shut_down && bench.connection.unread_bytes() > 0);
    bench.peer_reads(usize::MAX);
    assert!(bench.has_shut_down);
    assert_eq!(bench.received(), b"61\n".repeat(1000));
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::Drained, Close::Gently)));
    bench.assert_messages();
}

/// A driver may have received before it is told to pause: that is answered behind what is unread.
#[test]
fn what_arrives_while_input_is_unread_is_answered_behind_it() {
    let mut bench = Bench::new("hex", &[("frame", "lines"), ("high_water", "1k")]);
    bench.window = 0;
    bench.receive(&b"a\n".repeat(1000));
    assert!(!bench.is_reading);
    let room = bench.connection.unread_bytes() + 10_000;
    let mut buffer = [&vec![0; room][..], b"b\n"].concat();
    bench.step(|connection, cx| connection.received(RecvBuf { buffer: &mut buffer, start: room }, cx));
    bench.peer_reads(usize::MAX);
    assert_eq!(bench.received(), [&b"61\n".repeat(1000)[..], b"62\n"].concat());
    bench.end();
    bench.assert_messages();
}

/// The limits of a turn hold for a chain that works in place too, also where each message is answered where it stands.
#[test]
fn more_than_high_water_in_one_read_comes_whole() {
    for chain in ["", "uppercase"] {
        let mut bench = Bench::new(chain, &[("frame", "lines"), ("high_water", "1k")]);
        let input = b"0123456789\n".repeat(300);
        bench.receive(&input);
        assert_eq!(bench.received(), input, "{chain:?}");
        assert!(bench.sent.iter().all(|sent| sent.len() <= 2 * 1024), "{chain:?}: in more than one turn");
        bench.end();
        bench.assert_balance();
    }
}

/// Where nothing waits one message is answered, whatever the limit.
#[test]
fn without_any_room_one_message_is_answered_at_a_time() {
    let mut bench = Bench::new("hex", &[("frame", "lines")]);
    bench.limits.high_water_bytes = 0;
    bench.receive(b"a\nb\nc\n");
    assert_eq!(bench.sent, [b"61\n", b"62\n", b"63\n"]);
    bench.end();
    bench.assert_messages();
}
