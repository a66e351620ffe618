//! Chains that are replaced while their messages are away.

use resay::EventKind;

use crate::Gate;
use crate::common::plugin::*;
use crate::common::*;

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
