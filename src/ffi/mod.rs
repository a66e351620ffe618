//! Unsafe boundary: callers. The C API, in C's own names; `include/resay.h` is generated from the files of this module,
//! in the order in which `build.rs` names them, and their comments are the header's: plain words, no Rust links.
//!
//! This module uses only the crate's public names, and nothing in the crate uses it. Every function has the same structure:
//! check the pointers, convert C's values to Rust's, call the crate, convert the result back. A panic stops here.
//!
//! | file | content |
//! |---|---|
//! | `error.rs` | codes, `resay_error`, and the wrapper of every call |
//! | `engine.rs` | an engine behind a pointer: which calls are allowed now; options |
//! | `address.rs` | socket addresses |
//! | `listener.rs` | listeners |
//! | `connection.rs` | connections, and listeners while they are served |
//! | `callback.rs` | functions of the host: what they may do, and their output |
//! | `function.rs` | functions of the host as transforms, and answers that come later |
//! | `transform.rs` | plugins, tables, functions, chains |
//! | `dry_run.rs` | chains without sockets |
//! | `lookup.rs` | the transforms and options that there are, counters |
//! | `run.rs` | the three ways to run; stop, drain, join |
//! | `threads.rs` | the program's part in the engine's threads |
//! | `observe.rs` | statistics, the log |
//! | `event.rs` | queues of events |
//! | `tap.rs` | taps: records of messages |
//! | `client.rs` | the blocking client |
//! | `memory.rs`, `text.rs`, `time.rs`, `process.rs` | texts, structs, numbers and the process of the caller; nothing of them is in the header |
#![allow(non_camel_case_types)]
// Public to the linker, through `no_mangle`, and not to other Rust code.
#![allow(unreachable_pub)]
// The C documentation names the errors and the conditions; `# Safety` sections would go into the header.
#![allow(clippy::missing_safety_doc)]
// [*] and [1] are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod address;
mod callback;
mod client;
mod connection;
mod dry_run;
mod engine;
mod error;
mod event;
mod function;
// Not a part of the interface: calls of it in any order.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod listener;
mod lookup;
mod memory;
mod observe;
mod process;
mod run;
mod tap;
mod text;
mod threads;
mod time;
mod transform;

/// The version of the library that this header belongs to; resay_version has that of the library which is there.
pub const RESAY_VERSION_MAJOR: u32 = 0u32;
pub const RESAY_VERSION_MINOR: u32 = 1u32;
pub const RESAY_VERSION_PATCH: u32 = 0u32;

const _: () = {
    assert!(is_number(env!("CARGO_PKG_VERSION_MAJOR"), RESAY_VERSION_MAJOR));
    assert!(is_number(env!("CARGO_PKG_VERSION_MINOR"), RESAY_VERSION_MINOR));
    assert!(is_number(env!("CARGO_PKG_VERSION_PATCH"), RESAY_VERSION_PATCH));
};

/// Whether the digits are those of the number.
const fn is_number(digits: &str, number: u32) -> bool {
    let (digits, mut place, mut found) = (digits.as_bytes(), 0, 0);
    while place < digits.len() {
        found = 10 * found + (digits[place] - b'0') as u32;
        place += 1;
    }
    found == number
}

/// The version of this interface. It changes only when existing programs would break. The SONAME,
/// libresay.so.1, contains it.
pub const RESAY_ABI: u32 = 1u32;
