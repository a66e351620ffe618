use super::*;
use std::path::Path;

use crate::buffer::Pool;
use crate::chain::Scratch;
use crate::chain::tests::kit::{HELD_US, generation, take_asked};
use crate::context::ConnLimits;
use crate::frame::{Frame, Framer};
use crate::later::{Owner, Tickets};
use crate::net::guard::Amplification;
use crate::peer::SocketKind;
use crate::slab::Token;
use crate::tap::Recorder;
use crate::transform::library::LocalEnd;

#[test]
fn what_cannot_be_answered_is_refused() {
    let ip = |text: &str| Peer::Ip(text.parse().unwrap());
    let unicast = LocalAddr::Unicast;
    for (from, to, truncated, expected) in [
        (ip("10.0.0.1:9"), unicast, false, None),
        (ip("[fe80::1]:9"), LocalAddr::Bound, false, None),
        (ip("10.0.0.1:9"), unicast, true, Some(DropReason::TooLong)),
        (ip("10.0.0.1:9"), LocalAddr::Group, false, Some(DropReason::GroupDestination)),
        (ip("10.0.0.1:0"), unicast, false, Some(DropReason::BadSource)),
        (ip("0.0.0.0:9"), unicast, false, Some(DropReason::BadSource)),
        (ip("224.0.0.1:9"), unicast, false, Some(DropReason::BadSource)),
        (ip("255.255.255.255:9"), unicast, false, Some(DropReason::BadSource)),
        (ip("[ff02::1]:9"), unicast, false, Some(DropReason::BadSource)),
        (ip("[::]:9"), unicast, false, Some(DropReason::BadSource)),
        (Peer::Path(Path::new("/run/x").into()), LocalAddr::Bound, false, None),
        (Peer::Path(Path::new("x").into()), LocalAddr::Bound, false, Some(DropReason::Unnamed)),
        (Peer::Abstract((*b"x").into()), LocalAddr::Bound, false, None),
        (Peer::Unnamed, LocalAddr::Bound, false, Some(DropReason::Unnamed)),
    ] {
        assert_eq!(refuse(&from, to, truncated), expected, "{from} {to:?}");
    }
}

#[test]
fn a_plain_source_is_never_refused() {
    let (mut plain, mut others) = (0, 0);
    for first in 0..=255_u8 {
        for (rest, port) in [(0, 9), (1, 9), (255, 9), (1, 0), (1, 0x100), (1, 0xffff)] {
            let v4 = IpAddr::V4([first, rest, rest, rest].into());
            let v6 = IpAddr::V6([u16::from_be_bytes([first, rest]), 0, 0, 0, 0, 0, 0, 1].into());
            let mapped = IpAddr::V6(std::net::Ipv4Addr::new(first, rest, rest, rest).to_ipv6_mapped());
            for ip in [v4, v6, mapped] {
                let address = SocketAddr::new(ip, port);
                let plain_port = crate::sys::plain_port(&name_of(address));
                if plain_port != 0 {
                    assert_eq!(plain_port, port);
                    let peer = Peer::Ip(SocketAddr::new(ip.to_canonical(), port));
                    assert_eq!(refuse(&peer, LocalAddr::Bound, false), None, "{address}");
                    plain += 1;
                } else {
                    others += 1;
                }
            }
        }
    }
    // The addresses that most have are plain.
    assert!(plain > others, "{plain} of {}", plain + others);
    let unix = family_of(libc::AF_UNIX);
    assert_eq!(crate::sys::plain_port(&[&unix[..], b"/run/x\0\0"].concat()), 0);
    assert!(crate::sys::plain_port(&unix) == 0 && crate::sys::plain_port(&[]) == 0);
}

/// A name as the kernel writes it (ip(7), ipv6(7)).
fn name_of(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => [&family_of(libc::AF_INET)[..], &port, &ip.octets(), &[0; 8]].concat(),
        IpAddr::V6(ip) => [&family_of(libc::AF_INET6)[..], &port, &[0; 4], &ip.octets(), &[0; 4]].concat(),
    }
}

fn family_of(family: i32) -> [u8; 2] {
    (family as libc::sa_family_t).to_ne_bytes()
}

fn limits() -> ConnLimits {
    let local = LocalEnd {
        kind: SocketKind::Udp,
        url: "udp://127.0.0.1:1".to_owned(),
        listener: 1,
        address: Peer::Unnamed,
        answer_bytes_max: 1000,
    };
    ConnLimits {
        local,
        framer: Framer::new(&Frame::Raw, 1000),
        records: false,
        amplification: Amplification::UNLIMITED,
        read_bytes_max: 1000,
        high_water_bytes: 1000,
        min_rate: None,
        idle_timeout: None,
        write_timeout: Duration::from_secs(1),
        swap_timeout: Duration::from_secs(1),
    }
}

/// Lets a chain do something as a worker does.
fn with_context<R>(
    chain: &str,
    stats: &Block,
    run: impl FnOnce(&mut Context<'_>, Conversation<'_>) -> R,
) -> R {
    let (limits, generation, tickets) = (limits(), generation(chain), Arc::<Tickets>::default());
    let issuer = TicketIssuer {
        tickets: &tickets,
        owner: Owner { worker: 0, socket: Token::new(0, 0) },
        waiting_bytes_max: 1000,
        order: None,
    };
    let (mut pool, mut scratch) = (Pool::default(), Scratch::default());
    let mut cx = Context {
        limits: &limits,
        current: &generation,
        pool: &mut pool,
        scratch: &mut scratch,
        stats,
        recorder: &mut Recorder::new(&Arc::default()),
        now: Moment::from_micros(1),
        sends_left: 1,
        may_block: false,
        issuer: Some(issuer),
        is_draining: false,
    };
    let conversation = limits.conversation(0, &Peer::Unnamed, None);
    run(&mut cx, conversation)
}

fn answer(chain: &str, stats: &Block) -> Outcome {
    with_context(chain, stats, |cx, conversation| {
        let mut buffer = b"a".to_vec();
        DatagramSession::default().answer(RecvBuf { buffer: &mut buffer, start: 0 }, conversation, cx)
    })
}

#[test]
fn a_datagram_through_a_chain() {
    let dropped = |reason| (Reply::Nothing, Some(reason));
    let owned = |text: &str| (Reply::Owned(text.into()), None);
    for (chain, (reply, reason)) in [
        ("uppercase", (Reply::InRecvBuf(0..1), None)),
        ("hex", owned("61")),
        ("add", owned("a+")),
        ("held", owned("a")),
        ("last", owned("a.")),
        ("quiet", dropped(DropReason::ByTransform)),
        ("last | quiet", dropped(DropReason::ByTransform)),
        ("breaks", dropped(DropReason::ByTransform)),
        ("fails", dropped(DropReason::TransformFailed)),
        ("refuses", dropped(DropReason::ByTransform)),
        ("refuses-politely | add", dropped(DropReason::ByTransform)),
        ("cannot-begin", dropped(DropReason::TransformFailed)),
        // Nobody has asked a datagram's peer to be greeted.
        ("greets | add", owned("a+")),
    ] {
        let stats = Block::default();
        let outcome = answer(chain, &stats);
        assert_eq!((&outcome.reply, outcome.dropped), (&reply, reason), "{chain}");
        assert_eq!(outcome.fault.is_some(), reason == Some(DropReason::TransformFailed), "{chain}");
        let bytes = if let Reply::Owned(bytes) = &reply { bytes.len() } else { 0 };
        assert_eq!(outcome.reply_bytes(), bytes, "{chain}");
        let held = if chain == "held" { HELD_US } else { 0 };
        assert_eq!(outcome.delay, Duration::from_micros(held), "{chain}");
    }
}

#[test]
fn a_datagram_that_is_answered_later() {
    for (chain, verdict, reply, reason) in [
        ("asks | add", LateVerdict::Answer, Reply::Owned(b"1+".to_vec()), None),
        ("asks | held", LateVerdict::Close, Reply::Owned(b"1".to_vec()), None),
        ("asks | quiet", LateVerdict::Answer, Reply::Nothing, Some(DropReason::ByTransform)),
        ("asks", LateVerdict::Drop, Reply::Nothing, Some(DropReason::ByTransform)),
        ("asks", LateVerdict::Fail(-9), Reply::Nothing, Some(DropReason::TransformFailed)),
    ] {
        let stats = Block::default();
        with_context(chain, &stats, |cx, conversation| {
            let mut buffer = b"a".to_vec();
            let recv_buf = RecvBuf { buffer: &mut buffer, start: 0 };
            let outcome = DatagramSession::default().answer(recv_buf, conversation, cx);
            let later = outcome.later.unwrap();
            assert_eq!(vec![later.ticket()], take_asked(), "{chain}");
            let answer = LateAnswer { ticket: later.ticket(), verdict, bytes: b"1".to_vec() };
            let outcome = resume(later, answer, conversation, cx);
            assert_eq!((outcome.reply, outcome.dropped), (reply, reason), "{chain} {verdict:?}");
        });
    }
}

/// What a release build does where it finds a fault of its own: no answer.
#[test]
fn a_fault_of_our_own_leaves_a_datagram_without_an_answer() {
    for chain in ["uppercase", "hex", "asks | hex"] {
        let stats = Block::default();
        with_context(chain, &stats, |cx, conversation| {
            let mut buffer = b"a".to_vec();
            let recv_buf = RecvBuf { buffer: &mut buffer, start: 0 };
            let mut session = DatagramSession::default();
            let outcome = if chain.starts_with("asks") {
                let later = session.answer(recv_buf, conversation, cx).later.unwrap();
                let (ticket, verdict) = (later.ticket(), LateVerdict::Answer);
                bug::found_in_release("no fault");
                resume(later, LateAnswer { ticket, verdict, bytes: b"1".to_vec() }, conversation, cx)
            } else {
                bug::found_in_release("no fault");
                session.answer(recv_buf, conversation, cx)
            };
            assert_eq!(
                (outcome.reply, outcome.dropped),
                (Reply::Nothing, Some(DropReason::Undelivered)),
                "{chain}"
            );
            assert!(!bug::is_tainted() && bug::take().is_some(), "{chain}");
        });
    }
}

#[test]
fn the_way_of_most_is_for_a_chain_that_is_in_use() {
    with_context("uppercase", &Block::default(), |cx, conversation| {
        let mut session = DatagramSession::default();
        assert!(!session.is_fast(cx));
        assert_eq!(session.answer_in_place(&mut b"a".to_vec(), cx).ok(), Some(false));
        let mut buffer = b"a".to_vec();
        session.answer(RecvBuf { buffer: &mut buffer, start: 0 }, conversation, cx);
        assert!(session.is_fast(cx));
        let mut message = b"b".to_vec();
        assert_eq!(session.answer_in_place(&mut message, cx).ok(), Some(true));
        assert_eq!(message, b"B");
    });
}

/// Answers that leave later have room for so many, and for so many bytes; a copy takes room and is no answer.
#[test]
fn answers_that_leave_later_are_bounded() {
    let to = AnswerTo::new(ReplyTo::back(&[], &[]), &Peer::Unnamed, false);
    let at = Moment::from_micros;
    let mut answers = DelayedDatagrams::default();
    assert!(answers.is_empty() && answers.take_due(at(1000)).is_none());
    let half = vec![b'a'; DELAYED_DATAGRAM_BYTES_MAX / 2];
    assert!(answers.keep(at(20), to, &half, 2), "with one copy of two");
    assert_eq!((answers.answers(), answers.answers.len()), (1, 2));
    assert!(!answers.keep(at(10), to, b"a", 0) && !answers.has_room(1) && answers.has_room(0));
    assert!(answers.take_due(at(19)).is_none());
    assert_eq!(answers.take_due(at(20)).map(|answer| answer.answers), Some(1));
    assert!(answers.keep(at(10), to, b"first", 0));
    assert_eq!(answers.next(), at(10));
    assert_eq!(answers.take_due(at(20)).map(|answer| answer.bytes), Some((*b"first").into()));
    answers.keep_copies(at(30), to, b"", DELAYED_DATAGRAMS_MAX as u32);
    assert_eq!((answers.answers.len(), answers.answers()), (DELAYED_DATAGRAMS_MAX, 0));
    assert!(!answers.has_room(0));
}
