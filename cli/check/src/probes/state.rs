//! Sessions that are carried over: saved at every message, loaded into another instance.

use crate::drive::{self, Arena, How, Load, Save, Session, Subject};
use crate::fixture::Fixture;
use crate::mode::Mode;
use crate::plan::{Plan, Trace};
use crate::promise::Promise;
use crate::request::Request;
use crate::verdict::{Check, Verdict, Violation};
use crate::words::status_text;
use resay_plugin::{abi, inspect};
use std::ffi::CStr;

/// How often a difference is confirmed.
const CONFIRMATIONS: usize = 4;

pub(crate) fn state(request: &Request) -> Check<Verdict> {
    let mut fixture = Fixture::new(request)?;
    if !fixture.subject.serves(Mode::Messages) {
        return Ok(Verdict::Skipped("session_open() refuses streams".to_owned()));
    }
    let raw =
        fixture.subject.table.extension(abi::RESAY_EXT_SESSION_STATE).cast::<abi::resay_session_state>();
    if raw.is_null() {
        return Ok(Verdict::Skipped("it does not offer resay.session-state/1".to_owned()));
    }
    let bytes_min = size_of::<abi::resay_session_state>();
    // SAFETY: an extension of that name is a resay_session_state of struct_size bytes.
    let functions = unsafe { inspect::read("resay_session_state", raw, bytes_min) }
        .map_err(|what| Violation::of(Promise::Table, what))?;
    let (Some(save), Some(load)) = (functions.save, functions.load) else {
        return Err(Violation::of(Promise::SessionState, "save or load is NULL".to_owned()));
    };
    if functions.schema.is_null() {
        return Err(Violation::of(Promise::SessionState, "the schema is NULL".to_owned()));
    }
    // SAFETY: by the ABI NUL-ended, and as constant as the table.
    let schema = unsafe { CStr::from_ptr(functions.schema) };
    if let Some(why) = fixture.nondeterminism()? {
        return Ok(Verdict::Skipped(why));
    }
    let carry = Carry { save, load, schema };
    let mut rng = fixture.rng();
    let budget = fixture.budget();
    let mut cases = 0;
    while cases < 10 || (cases < 300 && budget.is_left()) {
        let streams = fixture.subject.serves(Mode::Stream);
        let mode = if streams && cases % 2 == 0 { Mode::Stream } else { Mode::Messages };
        let plan = Plan::random(&mut rng, mode, 6, 200);
        let whole = plan.run_fresh(&fixture.subject, &mut fixture.arena, &How::default())?;
        for split in 0..=plan.parts.len() {
            let mut over = || carry.over(&fixture.subject, &mut fixture.arena, &plan, split, &whole);
            match over() {
                Ok(None) => {}
                Ok(Some(why)) => return Ok(Verdict::Skipped(why)),
                // What is broken stays broken; what changes by itself does not.
                Err(violation) => {
                    if (0..CONFIRMATIONS).all(|_| over().is_err()) {
                        return Err(violation);
                    }
                }
            }
        }
        cases += 1;
    }
    carry.refuses(&fixture.subject, &mut fixture.arena)?;
    Ok(Verdict::Passed)
}

struct Carry {
    save: Save,
    load: Load,
    schema: &'static CStr,
}

impl Carry {
    /// Sends `split` parts, saves, goes on in another instance and in this one. `Some`: it would not save.
    fn over(
        &self,
        subject: &Subject,
        arena: &mut Arena,
        plan: &Plan,
        split: usize,
        whole: &Trace,
    ) -> Check<Option<String>> {
        let (old, new) = (subject.create()?, subject.create()?);
        let mut session = old.session(arena, abi::RESAY_STREAM)?;
        let mut trace = Trace::new(plan.mode);
        session.greeting.take().into_iter().for_each(|greeting| trace.add(greeting));
        process_parts(&mut session, arena, plan, 0..split, &mut trace)?;
        if session.over {
            return Ok(None);
        }
        let (status, state) = drive::save(&session, arena, self.save, false)?;
        if status != abi::RESAY_OK {
            return Ok(Some(format!("save() returned {}", status_text(status))));
        }
        let (again, same) = drive::save(&session, arena, self.save, true)?;
        if again != abi::RESAY_OK || same != state {
            let what = "save() saves a different state when output_cap is small at first".to_owned();
            return Err(Violation::of(Promise::SessionState, what));
        }
        let mut loaded = new.session(arena, abi::RESAY_STREAM)?;
        loaded.greeting = None;
        loaded.tail.clone_from(&session.tail);
        let (status, text) = drive::load(&loaded, arena, self.load, self.schema, &state)?;
        if status != abi::RESAY_OK {
            let what = format!("load() of its own state returned {}: {text}", status_text(status));
            return Err(Violation::of(Promise::SessionState, what));
        }
        for (session, name) in [(&mut loaded, "loaded"), (&mut session, "saved")] {
            let mut trace = trace.clone();
            process_parts(session, arena, plan, split..plan.parts.len(), &mut trace)?;
            if plan.mode == Mode::Stream {
                trace.add(session.end(arena, &How::default())?);
            }
            if let Some(what) = whole.difference(&trace) {
                let what = format!("after {split} parts, the {name} session continues differently: {what}");
                return Err(Violation::of(Promise::SessionState, what));
            }
        }
        Ok(None)
    }

    /// What is no state of its own is refused, or survived.
    fn refuses(&self, subject: &Subject, arena: &mut Arena) -> Check<()> {
        let instance = subject.create()?;
        let session = instance.session(arena, abi::RESAY_STREAM)?;
        let (status, _) = drive::load(&session, arena, self.load, c"resay-check.unknown/1", b"?")?;
        if status == abi::RESAY_OK {
            let what = "load() accepts a state with an unknown schema".to_owned();
            return Err(Violation::of(Promise::SessionState, what));
        }
        let (_, state) = drive::save(&session, arena, self.save, false)?;
        let mut longer = state.clone();
        longer.extend([0xff; 100]);
        for state in [&[][..], &state[..state.len() / 2], &longer, &vec![0xff; state.len()], &[0xff; 3]] {
            let session = instance.session(arena, abi::RESAY_STREAM)?;
            drive::load(&session, arena, self.load, self.schema, state)?;
        }
        Ok(())
    }
}

fn process_parts(
    session: &mut Session<'_, '_>,
    arena: &mut Arena,
    plan: &Plan,
    parts: std::ops::Range<usize>,
    trace: &mut Trace,
) -> Check<()> {
    for part in &plan.parts[parts] {
        trace.add(match plan.mode {
            Mode::Stream => session.read(arena, &How::default(), part)?,
            _ => session.message(arena, &How::default(), part)?,
        });
    }
    Ok(())
}
