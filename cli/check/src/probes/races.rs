//! Data races on the library's global variables.
//!
//! Calls are repeated with the same input, and their writes to the library's data recorded. A variable whose value each
//! call changes, without an atomic instruction, is a candidate: a counter, say. Then two threads call at once. If both
//! get to the write at the same moment, no lock keeps them apart, and one of the two changes is lost. Nothing is
//! reported that was not seen to happen.

use crate::child::step;
use crate::drive::{Arena, How, Instance};
use crate::elf::symbol_at;
use crate::fixture::Fixture;
use crate::instruction::{Access, access};
use crate::plan::Plan;
use crate::promise::Promise;
use crate::request::Request;
use crate::table::Loaded;
use crate::verdict::{Check, Verdict, Violation};
use crate::watch::{Collision, Watch, Write};
use resay_plugin::abi;
use std::collections::BTreeMap;

/// What is taken once is taken before these.
const CALLS_FIRST: usize = 3;
const CALLS_RECORDED: usize = 8;
const CANDIDATES_MAX: usize = 24;
/// A race is reported if it happens this often in a row.
const CONFIRMATIONS: usize = 2;
/// The longest instruction.
const INSTRUCTION_BYTES_MAX: usize = 15;
const PAGE_BYTES: usize = 4096;

pub(crate) fn races(request: &Request) -> Check<Verdict> {
    let loaded = Loaded::open(&request.file)?;
    let mut fixture = Fixture::new(request)?;
    let threading = fixture.subject.table.fields.threading;
    if threading == abi::RESAY_SERIAL {
        return Ok(Verdict::Skipped("RESAY_SERIAL: a lock of the host keeps calls apart".to_owned()));
    }
    let Some(watch) = Watch::of(loaded.entry as usize) else {
        return Ok(Verdict::Passed); // no global variables
    };
    let mut rng = fixture.rng();
    let one = fixture.subject.create()?;
    let another = if threading == abi::RESAY_PER_WORKER { Some(fixture.subject.create()?) } else { None };
    let instances = [&one, another.as_ref().unwrap_or(&one)];
    for mode in &fixture.subject.modes {
        let plan = Plan { mode: *mode, parts: vec![rng.text(100), rng.text(1)] };
        let call = |instance: &Instance<'_>, arena: &mut Arena| {
            // What the calls return is the subject of other probes.
            let _ = plan.run(instance, arena, &How::default());
        };
        for _ in 0..CALLS_FIRST {
            instances.iter().for_each(|instance| call(instance, &mut fixture.arena));
        }
        step(format!("recording writes to global variables, {mode}"));
        let mut calls = Vec::new();
        for _ in 0..CALLS_RECORDED {
            match watch.record(|| call(&one, &mut fixture.arena)) {
                Some(writes) => calls.push(writes),
                None => return Ok(Verdict::Skipped("it writes to global variables too often".to_owned())),
            }
        }
        for candidate in candidates(&calls) {
            step(format!("calls from two threads, {mode}"));
            let in_thread = |instance| call(instance, &mut Arena::new(request.seed));
            let collide = || watch.collide(candidate, || in_thread(instances[0]), || in_thread(instances[1]));
            let collisions: Option<Vec<Collision>> =
                (0..CONFIRMATIONS).map(|_| collide().filter(is_lost)).collect();
            if let Some(collision) = collisions.and_then(|all| all.into_iter().next()) {
                return Err(violation(request, &watch, &collision, threading));
            }
        }
    }
    Ok(Verdict::Passed)
}

/// The addresses that each call writes to, each time with another value, and not atomically.
fn candidates(calls: &[Vec<Write>]) -> Vec<usize> {
    let mut writes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (call, all) in calls.iter().enumerate() {
        for write in all {
            let calls = writes.entry((write.address, write.instruction)).or_default();
            // No call: the value stayed.
            calls.push(if write.before == write.after { usize::MAX } else { call });
        }
    }
    let is_candidate = |(address, instruction): (usize, usize), in_calls: &[usize]| {
        let is_in_each = (0..calls.len()).all(|call| in_calls.contains(&call));
        let changes = !in_calls.contains(&usize::MAX);
        (is_in_each && changes && access_of(instruction) != Access::Atomic).then_some(address)
    };
    let mut found: Vec<usize> =
        writes.iter().filter_map(|(key, in_calls)| is_candidate(*key, in_calls)).collect();
    found.dedup();
    found.truncate(CANDIDATES_MAX);
    found
}

/// Whether one of the two changes was lost, or is lost on two processors.
fn is_lost(collision: &Collision) -> bool {
    let Collision { first, second } = collision;
    match (access_of(first.instruction), access_of(second.instruction)) {
        (Access::Atomic, _) | (_, Access::Atomic) => false,
        // It was stopped before it read. On another processor it may read before the other writes.
        (Access::ReadModifyWrite, _) => true,
        // Both made the same new value of the same old one: the second's change is gone.
        (Access::Store, _) => second.before != second.after && first.after == second.after,
    }
}

fn access_of(instruction: usize) -> Access {
    let len = INSTRUCTION_BYTES_MAX.min(PAGE_BYTES - instruction % PAGE_BYTES);
    // SAFETY: an instruction that was executed, and what is in the same page.
    let code = unsafe { std::slice::from_raw_parts(instruction as *const u8, len) };
    access(code)
}

fn violation(request: &Request, watch: &Watch, collision: &Collision, threading: u32) -> Violation {
    let file = std::fs::read(&request.file).unwrap_or_default();
    let offset = |address: usize| address.wrapping_sub(watch.base) as u64;
    let name = |address: usize| symbol_at(&file, offset(address));
    let variable = match name(collision.first.address) {
        Some(name) => format!("the global variable {name}"),
        None => format!("the global variable at offset {:#x}", offset(collision.first.address)),
    };
    let what = format!("two threads change {variable} at the same time, and one of the two changes is lost");
    let place = |write: &Write| match name(write.instruction) {
        Some(name) => format!("{name}(), offset {:#x}", offset(write.instruction)),
        None => format!("offset {:#x} of the library", offset(write.instruction)),
    };
    let advice = "an atomic (stdatomic.h), a mutex, the session's memory, or a counter of the host";
    let declared = if threading == abi::RESAY_SHARED { "RESAY_SHARED" } else { "RESAY_PER_WORKER" };
    Violation::of(Promise::Threading, what)
        .with("threading", declared.to_owned())
        .with("in", place(&collision.first))
        .with("use", advice.to_owned())
}
