//! Hosts of other revisions: structs that are longer than the plugin knows, that end where minor 0 ends, and that
//! hold nothing which may be NULL.

use crate::drive::How;
use crate::fixture::Fixture;
use crate::host::HostVersion;
use crate::plan::Plan;
use crate::request::Request;
use crate::verdict::{Check, Verdict};
use resay_plugin::abi;

pub(crate) fn structs(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    let mut rng = fixture.rng();
    for shape in [HostVersion::Now, HostVersion::Newer, HostVersion::Bare] {
        let instance = fixture.subject.create_in(shape)?;
        for mode in &fixture.subject.modes {
            for _ in 0..4 {
                let plan = Plan::random(&mut rng, *mode, 4, 1000);
                plan.run(&instance, &mut fixture.arena, &How::default())?;
            }
        }
        for kind in [abi::RESAY_STREAM, abi::RESAY_DATAGRAM, abi::RESAY_SEQPACKET] {
            for has_addresses in [true, false] {
                // A kind of peer may be refused: RESAY_E_UNSUPPORTED.
                if let Ok(mut session) = instance.session_with(&mut fixture.arena, kind, has_addresses)? {
                    session.message(&mut fixture.arena, &How::default(), b"hello")?;
                }
            }
        }
        instance.check_host()?;
    }
    Ok(Verdict::Passed)
}
