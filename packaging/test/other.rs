//! Another library of Rust for C, with the standard library in it: it allocates, starts a thread, keeps a value for each
//! thread, and catches a panic.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::catch_unwind;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// 42, if all of that works; 43 when it is called again.
#[unsafe(no_mangle)]
pub extern "C" fn other_answer() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let map: HashMap<i32, String> = (0..40).map(|number| (number, number.to_string())).collect();
    CALLS.set(CALLS.get() + 1);
    let of_another = std::thread::spawn(|| CALLS.get()).join().unwrap_or(9);
    let caught = catch_unwind(|| map.get(&40).map(String::len).expect("no such number")).is_err();
    map.len() as i32 + i32::from(caught) + CALLS.get() as i32 + of_another as i32
}
