//! What most probes of a transform need: the transform, memory for its calls, random input, a time limit.

use crate::drive::{Arena, Subject};
use crate::plan;
use crate::request::Request;
use crate::rng::{Budget, Rng};
use crate::table::Loaded;
use crate::verdict::Check;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) subject: Subject,
    pub(crate) arena: Arena,
    pub(crate) seed: u64,
    pub(crate) budget: Duration,
}

impl Fixture {
    pub(crate) fn new(request: &Request) -> Check<Fixture> {
        let subject = Subject::new(&Loaded::open(&request.file)?, request)?;
        let arena = Arena::new(request.seed);
        Ok(Fixture { subject, arena, seed: request.seed, budget: request.budget })
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.budget)
    }

    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    pub(crate) fn nondeterminism(&mut self) -> Check<Option<String>> {
        plan::nondeterminism(&self.subject, &mut self.arena, self.seed)
    }

    pub(crate) fn is_map(&self) -> bool {
        self.subject.table.fields.map.is_some()
    }
}
