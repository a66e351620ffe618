//! Chains that are replaced while their messages are away.

use std::sync::mpsc;

use resay::{EventKind, Message, Output, Transform, Verdict};

use crate::common::plugin::*;
use crate::common::*;
use crate::{Gate, plain_listener};

/// A transform that fails when its chain has been replaced is named all the same, and not one of the new chain.
#[test]
fn a_failure_in_a_chain_that_was_replaced_is_its_own() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in [Transport::Tcp4, Transport::Udp4, Transport::UnixDatagram] {
            let log = Log::default();
            let builder = log.builder().listen(&transport.url(gate.directory.path())).unwrap();
            let engine = builder.chain(&gate.chain("=identity | blocks")).unwrap().start().unwrap();
            let peer = Peer::connect(&engine.urls()[0]);
            peer.send(b"B F");
            eventually_counted(&engine, "blocks.entered", 1);
            engine.set_chain("hex").unwrap();
            engine.sync(Some(PATIENCE)).unwrap();
            gate.release(1);
            eventually_stats(&engine, "it has failed", |stats| stats.transform_errors == 1);
            engine.sync(Some(PATIENCE)).unwrap();
            let lines = log.lines(EventKind::TransformFailed);
            assert!(lines.len() == 1 && lines[0].1.contains("transform blocks"), "{transport:?} {lines:?}");
            drop(peer);
            finish(engine);
        }
    });
}

/// A connection that waits for an answer goes along with a change of the chain once it has that. Opening there may block too,
/// which holds up nobody, the answer included.
#[test]
fn going_along_after_a_late_answer_may_block() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let (requests, waiting) = mpsc::channel();
        let later = move |_: &Message<'_>, out: &mut Output<'_>| match out.later() {
            Some(number) if requests.send(number).is_ok() => Verdict::Later,
            _ => Verdict::Drop,
        };
        let builder = engine_builder().register(Transform::from_fn("later", later).unwrap());
        let builder = builder.listen("tcp://127.0.0.1:0").unwrap().chain("later").unwrap();
        let engine = builder.start().unwrap();
        let other = plain_listener(&engine);
        let (peer, witness) = (Peer::connect(&engine.urls()[0]), Peer::connect(&other));
        assert_eq!(witness.ask(b"x"), b"X");
        peer.send(b"question");
        let number = waiting.recv_timeout(PATIENCE).unwrap();
        engine.set_chain(&gate.chain("opens")).unwrap();
        engine.sync(Some(PATIENCE)).unwrap();
        engine.answer(number, Verdict::Replace, b"answer").unwrap();
        let answer = peer.try_recv(16);
        peer.send(b"next");
        eventually_counted(&engine, "opens.entered", 1);
        witness.send(b"y");
        let heard = witness.try_recv(1);
        gate.release(1);
        assert_eq!(answer.unwrap(), b"answer", "an answer waits for a session to open");
        assert_eq!(heard.unwrap(), b"Y", "an opening session holds others up");
        assert_eq!(peer.message(), b"next");
        drop((peer, witness));
        finish(engine);
    });
}
