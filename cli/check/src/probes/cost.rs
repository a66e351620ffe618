//! Measures what a call costs.

use crate::child::step;
use crate::drive::{Arena, Subject};
use crate::host::calling;
use crate::request::Request;
use crate::rng::{Budget, Rng};
use crate::table::Loaded;
use crate::verdict::{Check, Verdict};
use resay_plugin::abi;
use std::time::{Duration, Instant};

const SIZES: &[usize] = &[16, 64, 1024, 65_536, 1024 * 1024];
const REPEATS: usize = 15;
/// A repeat takes about this long, so that the clock does not count.
const REPEAT_TIME: Duration = Duration::from_millis(2);

/// Measures in plain memory, without checks: the other probes did those.
pub(crate) fn measure(request: &Request) -> Check<Verdict> {
    let subject = Subject::new(&Loaded::open(&request.file)?, request)?;
    let instance = subject.create()?;
    let mut arena = Arena::new(request.seed);
    let session = instance.session(&mut arena, subject.modes[0].kind())?;
    let fields = &subject.table.fields;
    let input = Rng::new(request.seed).text(SIZES[SIZES.len() - 1]);
    let budget = Budget::new(request.limit / 2);
    let mut data = Vec::new();
    for size in SIZES {
        step(format!("measuring {size} bytes"));
        let mut input = input[..*size].to_vec();
        let room = subject.table.bound(*size).unwrap_or(0).max(2 * size + 4096);
        let mut output = vec![0_u8; room];
        let mut once = || -> bool {
            if let Some(map) = fields.map {
                // SAFETY: a living instance and session, memory of this function.
                let status =
                    unsafe { map(instance.own(), session.place.cast(), input.as_mut_ptr(), input.len()) };
                return status >= 0;
            }
            let Some(process) = fields.process else { return false };
            let mut used = 0;
            loop {
                let mut io = abi::resay_io {
                    struct_size: size_of::<abi::resay_io>() as u32,
                    flags: abi::RESAY_IO_BEGIN | abi::RESAY_IO_END,
                    input: input[used..].as_ptr(),
                    input_len: input.len() - used,
                    input_used: 0,
                    output: output.as_mut_ptr(),
                    output_cap: output.len(),
                    output_len: 0,
                    output_need: 0,
                    delay_us: 0,
                    copies: 0,
                    zero: 0,
                };
                // SAFETY: as above.
                let status = unsafe { process(instance.own(), session.place.cast(), &mut io) };
                used = (used + io.input_used).min(input.len());
                if status != abi::RESAY_MORE_OUT {
                    return status >= 0;
                }
                if io.output_need > output.len() {
                    output.resize(io.output_need.min(64 * 1024 * 1024), 0);
                }
            }
        };
        let measured = calling(abi::RESAY_THREAD_WORKER, || median(&mut once, &budget));
        let Some(nanoseconds) = measured else {
            return Ok(Verdict::Skipped(format!(
                "the transform fails on {size} bytes of text: nothing to measure"
            )));
        };
        data.push(format!("{size} {nanoseconds}"));
        if !budget.is_left() {
            break;
        }
    }
    Ok(Verdict::Data(data))
}

/// Nanoseconds of one `work`; `None`: it failed.
fn median(work: &mut dyn FnMut() -> bool, budget: &Budget) -> Option<f64> {
    let start = Instant::now();
    let mut calls = 1_u32;
    // Finds how many calls a repeat takes; warms up on the way.
    loop {
        let begin = Instant::now();
        for _ in 0..calls {
            if !work() {
                return None;
            }
        }
        if begin.elapsed() >= REPEAT_TIME / 2 || calls >= 1 << 24 || start.elapsed() > REPEAT_TIME * 50 {
            break;
        }
        calls *= 2;
    }
    let mut times: Vec<f64> = Vec::new();
    while times.len() < REPEATS && (times.len() < 3 || budget.is_left()) {
        let begin = Instant::now();
        for _ in 0..calls {
            work();
        }
        times.push(begin.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
