//! What stands before and around a stream.

use super::*;
use crate::limits::QUEUED_SEND_BYTES;
use crate::transform::library::Conversation;

/// A peer's name and a line feed.
#[derive(Debug)]
struct Name;

impl Preface for Name {
    fn received(&mut self, bytes: &[u8]) -> PrefaceProgress {
        match bytes.iter().position(|byte| *byte == b'\n') {
            None => PrefaceProgress::NeedMore,
            Some(0) => PrefaceProgress::Refuse("no name"),
            Some(end) => {
                PrefaceProgress::Done { used: end + 1, peer: Some(Peer::Abstract(bytes[..end].to_vec())) }
            }
        }
    }
}

/// Says hello, waits for a hello, and turns every bit around from then on.
#[derive(Debug, Default)]
struct Flipped {
    heard: usize,
    is_broken: bool,
}

const HELLO: &[u8] = b"hello";

impl Layer for Flipped {
    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        for byte in wire {
            if self.heard < HELLO.len() {
                if *byte != HELLO[self.heard] {
                    self.is_broken = true;
                    reply.extend_from_slice(b"what?");
                    return Err("no hello");
                }
                self.heard += 1;
                if self.heard == HELLO.len() {
                    reply.extend_from_slice(HELLO);
                }
            } else {
                plain.push(!*byte);
            }
        }
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.heard == HELLO.len() && !self.is_broken
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(b"bye");
    }
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

fn behind(preface: bool, layer: bool) -> Option<Around> {
    let preface = preface.then(|| Box::new(Name) as Box<dyn Preface>);
    let layer = layer.then(|| Box::new(Flipped::default()) as Box<dyn Layer>);
    Some(Around::new(preface, layer, Duration::from_secs(5)))
}

#[test]
fn nothing_reaches_a_stream_before_what_stands_before_it() {
    for (preface, layer) in [(true, false), (false, true), (true, true)] {
        // In one read, byte by byte, and cut in the middle.
        let hello: &[u8] = if layer { HELLO } else { b"" };
        let name: &[u8] = if preface { b"somebody\n" } else { b"" };
        let said = |text: &[u8]| if layer { flipped(text) } else { text.to_vec() };
        let input = [name, hello, &said(b"first\nsecond\n")].concat();
        for size in [input.len(), 1, 7] {
            let mut bench = Bench::around("uppercase", &[("frame", "lines")], behind(preface, layer));
            input.chunks(size).for_each(|piece| bench.receive(piece));
            bench.end();
            let bye: &[u8] = if layer { b"bye" } else { b"" };
            let expected = [hello, &said(b"FIRST\nSECOND\n"), bye].concat();
            assert_eq!(bench.received(), expected, "{preface} {layer} {size}");
            assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
            if preface {
                assert_eq!(bench.connection.peer(), &Peer::Abstract(b"somebody".to_vec()));
            }
            bench.assert_balance();
        }
    }
}

#[test]
fn delayed_and_queued_answers_go_through_the_layer_in_order() {
    let mut bench = Bench::around("delay:time=5ms", &[("frame", "lines")], behind(false, true));
    bench.receive(HELLO);
    bench.window = 10;
    let lines: Vec<u8> = (0..50).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    for piece in lines.chunks(33) {
        bench.receive(&flipped(piece));
    }
    for _ in 0..1000 {
        bench.pass(Duration::from_millis(1));
        bench.peer_reads(17);
    }
    assert_eq!(bench.received(), [HELLO, &flipped(&lines)].concat());
}

/// A change of the chain while a stream is opening: its first message is the new chain's, and no time with the old one runs.
#[test]
fn a_stream_opens_with_the_chain_of_that_moment() {
    for (preface, layer) in [(true, false), (false, true)] {
        let mut bench = Bench::around("uppercase", &[("frame", "lines")], behind(preface, layer));
        bench.receive(if preface { b"some" } else { b"he" });
        bench.current = generation("rot13");
        bench.step(Connection::swap);
        let message = if layer { flipped(b"first\n") } else { b"first\n".to_vec() };
        bench.receive(&[if preface { &b"body\n"[..] } else { b"llo" }, &message].concat());
        let answer = if layer { [HELLO, &flipped(b"svefg\n")].concat() } else { b"svefg\n".to_vec() };
        assert_eq!(bench.received(), answer, "{preface} {layer}");
        bench.pass(Duration::from_secs(3600));
        assert_eq!((bench.closed, bench.has_shut_down), (None, false));
        bench.end();
        bench.assert_balance();
    }
}

/// What came before a stream was open is not the stream's.
#[test]
fn an_unfinished_preface_is_in_no_balance() {
    for (preface, layer) in [(true, false), (false, true), (true, true)] {
        let mut bench = Bench::around("uppercase", &[], behind(preface, layer));
        bench.receive(b"hell");
        bench.end();
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
        assert_eq!(bench.figures().messages_in, 0);
        bench.assert_balance();
    }
}

#[test]
fn what_cannot_be_agreed_upon_ends_the_connection() {
    let mut bench = Bench::around("uppercase", &[], behind(false, true));
    bench.receive(b"GET / HTTP/1.0");
    assert_eq!(bench.received(), b"what?", "the peer hears why");
    assert!(bench.has_shut_down);
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::LayerFailed, Close::Gently)));

    for bad in [&b"\n"[..], &[b'x'; 5000]] {
        let mut bench = Bench::around("uppercase", &[], behind(true, false));
        bench.receive(bad);
        assert_eq!(bench.closed, Some((CloseReason::PrefaceRefused, Close::Reset)));
        assert!(bench.cost_max <= 16 * 1024);
    }
    for (preface, layer) in [(true, false), (false, true)] {
        let mut bench = Bench::around("uppercase", &[], behind(preface, layer));
        bench.receive(b"h");
        assert_eq!(bench.pass_until_closed(Duration::from_secs(60)), Duration::from_secs(5));
    }
}

/// A listener's own preface has time of its own, and so has the layer behind it.
#[test]
fn a_preface_and_a_layer_have_time_of_their_own() {
    let new = || {
        let around = Around::behind(Box::new(Name), Duration::from_secs(2), behind(false, true));
        Bench::around("uppercase", &[], Some(around))
    };
    let mut bench = new();
    bench.receive(b"some");
    assert_eq!(bench.pass_until_closed(Duration::from_secs(60)), Duration::from_secs(2));
    let mut bench = new();
    bench.receive(b"somebody\n");
    assert_eq!(bench.pass_until_closed(Duration::from_secs(60)), Duration::from_secs(5));
}

/// What a host sends before a stream is open is the first of it. If the stream never opens, it is counted.
#[test]
fn what_a_host_sends_before_a_stream_is_open() {
    let send = |bench: &mut Bench, account: &Arc<Account>| {
        let unasked = Unasked { bytes: b"early\n".to_vec(), permit: account.take(6).unwrap() };
        bench.step(|connection, cx| connection.asked(Request::Send(unasked), cx));
        assert_eq!((bench.connection.waiting_bytes(), bench.connection.owed().bytes()), (6, 6));
        assert_eq!(bench.received(), b"");
    };
    for (preface, layer) in [(true, false), (false, true), (true, true)] {
        let (account, most) = (Account::new(1000), 1000 - QUEUED_SEND_BYTES);
        let new = || Bench::around("uppercase", &[("frame", "lines")], behind(preface, layer));
        let said = |text: &[u8]| if layer { flipped(text) } else { text.to_vec() };
        let begin: &[u8] = if preface { b"some" } else { b"he" };
        let name: &[u8] = if preface { b"body\n" } else { b"" };
        let hello: &[u8] = if layer { HELLO } else { b"" };
        let mut bench = new();
        bench.receive(begin);
        send(&mut bench, &account);
        let hello_left = if preface { hello } else { &hello[begin.len()..] };
        bench.receive(&[name, hello_left, &said(b"first\n")].concat());
        assert_eq!(bench.received(), [hello, &said(b"early\nFIRST\n")].concat(), "{preface} {layer}");
        drop(bench);
        drop(account.take(most).expect("all of it has left"));

        for ends in [true, false] {
            let mut bench = new();
            bench.receive(begin);
            send(&mut bench, &account);
            if ends {
                bench.end();
            } else {
                bench.pass_until_closed(Duration::from_secs(60));
            }
            assert!(bench.closed.is_some(), "{preface} {layer}");
            assert_eq!(bench.figures().undelivered_bytes, 6, "{preface} {layer}");
            drop(bench);
            drop(account.take(most).expect("it has gone with its connection"));
        }
    }
    let mut bench = Bench::around("uppercase", &[], behind(false, true));
    send(&mut bench, &Account::new(1000));
    bench.receive(b"GET / HTTP/1.0");
    bench.end();
    assert_eq!(bench.closed, Some((CloseReason::LayerFailed, Close::Gently)));
    assert_eq!(bench.figures().undelivered_bytes, 6);
}

/// Nothing to agree on; a dot is the end of the peer's side, a low line means nothing, an exclamation mark breaks off, and
/// an answer with a question mark cannot be said.
#[derive(Debug, Default)]
struct Dotted {
    has_ended: bool,
    is_broken: bool,
    /// It does not begin.
    refuses: bool,
    /// It does not say bye.
    is_silent: bool,
}

impl Layer for Dotted {
    fn begin(&mut self, _: &Conversation<'_>) -> Result<(), &'static str> {
        if self.refuses { Err("not today") } else { Ok(()) }
    }

    fn received(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        _: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        for byte in wire {
            if *byte == b'!' {
                return Err("no word");
            }
            self.has_ended |= *byte == b'.';
            if !self.has_ended && *byte != b'_' {
                plain.push(*byte);
            }
        }
        Ok(())
    }

    fn is_established(&self) -> bool {
        !self.is_broken
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        self.is_broken = plain.contains(&b'?');
        wire.extend_from_slice(plain);
        if self.is_broken { Err("no words for it") } else { Ok(()) }
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        if !self.is_silent {
            wire.extend_from_slice(b"bye");
        }
    }

    fn has_peer_ended(&self) -> bool {
        self.has_ended
    }

    fn says_ends(&self) -> bool {
        true
    }
}

fn dotted(chain: &str, options: &[(&str, &str)]) -> Bench {
    dotted_as(Dotted::default(), chain, options)
}

fn dotted_as(layer: Dotted, chain: &str, options: &[(&str, &str)]) -> Bench {
    let around = Around::new(None, Some(Box::new(layer)), Duration::from_secs(5));
    Bench::around(chain, options, Some(around))
}

/// The peer ends its side within the layer: all is answered, then our side ends, and the socket's end is waited for.
#[test]
fn an_end_that_the_layer_tells_of() {
    for (size, frame) in [(1, "lines"), (3, "lines"), (100, "lines"), (100, "raw")] {
        let mut bench = dotted("uppercase", &[("frame", frame)]);
        b"first\nrest.ignored".chunks(size).for_each(|piece| bench.receive(piece));
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.received(), b"FIRST\nRESTbye", "{size}");
        assert!(bench.has_shut_down && bench.closed.is_none(), "{size}");
        bench.end();
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
        bench.assert_balance();
    }
    // Whose socket never ends is not waited for, and what cannot be sent at once is sent before.
    let mut bench = dotted("delay:time=5ms", &[("frame", "lines")]);
    bench.window = 2;
    bench.receive(b"first\n.");
    for _ in 0..100 {
        bench.pass(Duration::from_millis(1));
        bench.peer_reads(2);
    }
    assert_eq!(bench.received(), b"first\nbye");
    assert!(bench.has_shut_down && bench.closed.is_none());
    bench.pass_until_closed(Duration::from_secs(60));
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
    bench.assert_balance();
}

#[test]
fn an_end_that_the_layer_does_not_tell_of() {
    for (frame, expected) in [("lines", &b"FIRST\nbye"[..]), ("raw", b"FIRST\nRESTbye")] {
        let mut bench = dotted("uppercase", &[("frame", frame)]);
        bench.receive(b"first\nrest");
        bench.end();
        assert_eq!(bench.received(), expected);
        assert_eq!(bench.closed, Some((CloseReason::LayerTruncated, Close::Gently)));
        bench.assert_balance();
    }
}

/// An answer that the layer cannot say resets the connection, and counts as undelivered.
#[test]
fn an_answer_that_the_layer_cannot_say() {
    let mut bench = dotted("uppercase", &[("frame", "lines")]);
    bench.receive(b"first\n");
    bench.receive(b"what?\n");
    assert_eq!(bench.received(), b"FIRST\n");
    assert_eq!(bench.closed, Some((CloseReason::LayerFailed, Close::Reset)));
    assert_eq!(bench.figures().undelivered_bytes, 6);
    bench.assert_balance();
}

/// A layer that fails in the very read with which both sides have agreed opens no stream.
#[test]
fn a_layer_that_fails() {
    let mut bench = dotted_as(Dotted { refuses: true, ..Dotted::default() }, "uppercase", &[]);
    bench.receive(b"first");
    assert_eq!(
        (bench.received(), bench.closed),
        (Vec::new(), Some((CloseReason::LayerFailed, Close::Reset)))
    );
    for (reads, answer, dropped) in
        [(&["first\n!"][..], &b"bye"[..], 0), (&["first\n", "second\n!third"], b"FIRST\nbye", 7)]
    {
        let mut bench = dotted("uppercase", &[("frame", "lines")]);
        reads.iter().for_each(|read| bench.receive(read.as_bytes()));
        assert_eq!(bench.received(), answer, "{reads:?}");
        assert!(bench.has_shut_down && bench.closed.is_none(), "{reads:?}");
        bench.end();
        assert_eq!(bench.closed, Some((CloseReason::LayerFailed, Close::Gently)), "{reads:?}");
        assert_eq!(bench.figures().dropped_bytes, dropped, "{reads:?}");
        bench.assert_balance();
    }
}

#[test]
fn what_a_layer_keeps_to_itself_is_no_message() {
    let mut bench = dotted_as(Dotted { is_silent: true, ..Dotted::default() }, "uppercase", &[]);
    bench.receive(b"a");
    bench.receive(b"__");
    assert_eq!((bench.received(), bench.figures().messages_in), (b"A".to_vec(), 1));
    bench.receive(b".");
    assert!(bench.has_shut_down, "without a bye");
    bench.end();
    assert_eq!(
        (bench.received(), bench.closed),
        (b"A".to_vec(), Some((CloseReason::PeerClosed, Close::Gently)))
    );
    bench.assert_balance();
}

/// The peer has ended its side within the layer, and then the socket, while there is still input to answer.
#[test]
fn the_end_of_the_socket_after_that_of_the_layer_cuts_nothing_off() {
    let mut bench = dotted("hex", &[("frame", "lines"), ("high_water", "1k")]);
    bench.window = 0;
    bench.receive(&[&b"a\n".repeat(1000)[..], b"."].concat());
    assert!(!bench.is_reading && bench.connection.unread_bytes() > 0);
    bench.end();
    bench.peer_reads(usize::MAX);
    assert_eq!(bench.received(), [&b"61\n".repeat(1000)[..], b"bye"].concat());
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
    bench.assert_messages();
}
