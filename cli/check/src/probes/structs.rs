//! Hosts of other revisions: structs that are longer than the plugin knows, that end where minor 0 ends, and that
//! hold nothing which may be NULL.

use super::{Scene, Verdict};
use crate::child::Request;
use crate::drive::{How, Kept};
use crate::host::Shape;
use crate::plan::Plan;
use resay_plugin::abi;

pub(crate) fn structs(request: &Request) -> Kept<Verdict> {
    let mut scene = Scene::new(request)?;
    let mut rng = scene.rng();
    for shape in [Shape::Now, Shape::Newer, Shape::Bare] {
        let instance = scene.subject.create_in(shape)?;
        for mode in &scene.subject.modes {
            for _ in 0..4 {
                let plan = Plan::random(&mut rng, *mode, 4, 1000);
                plan.run(&instance, &mut scene.desk, &How::default())?;
            }
        }
        for kind in [abi::RESAY_STREAM, abi::RESAY_DATAGRAM, abi::RESAY_SEQPACKET] {
            for has_addresses in [true, false] {
                // A kind of peer may be refused: RESAY_E_UNSUPPORTED.
                if let Ok(mut session) = instance.session_with(&mut scene.desk, kind, has_addresses)? {
                    session.message(&mut scene.desk, &How::default(), b"hello")?;
                }
            }
        }
        instance.check_host()?;
    }
    Ok(Verdict::Held)
}
