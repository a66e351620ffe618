//! Numbers of the ABI and the system as text.

use resay_plugin::abi;
use std::ffi::{CStr, c_char};
use std::time::Duration;

/// A status of the ABI.
pub(crate) fn status_text(status: abi::resay_status) -> String {
    let name = match status {
        abi::RESAY_OK => "RESAY_OK",
        abi::RESAY_MORE_OUT => "RESAY_MORE_OUT",
        abi::RESAY_MORE_IN => "RESAY_MORE_IN",
        abi::RESAY_DROP => "RESAY_DROP",
        abi::RESAY_CLOSE => "RESAY_CLOSE",
        abi::RESAY_RESET => "RESAY_RESET",
        abi::RESAY_E_DATA => "RESAY_E_DATA",
        abi::RESAY_E_CONFIG => "RESAY_E_CONFIG",
        abi::RESAY_E_NOMEM => "RESAY_E_NOMEM",
        abi::RESAY_E_UNSUPPORTED => "RESAY_E_UNSUPPORTED",
        abi::RESAY_E_PANIC => "RESAY_E_PANIC",
        _ => return format!("the unknown status {status}"),
    };
    name.to_owned()
}

/// Bits by their names; those without one as a number.
pub(crate) fn bits_text(bits: u32, names: &[(u32, &str)]) -> String {
    let mut words: Vec<String> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let unknown = names.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if unknown != 0 {
        words.push(format!("unknown bits {unknown:#x}"));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

pub(crate) const CAPS: &[(u32, &str)] = &[
    (abi::RESAY_CAP_BYTEWISE, "bytewise"),
    (abi::RESAY_CAP_OBSERVER, "observer"),
    (abi::RESAY_CAP_ALIAS, "works with output == input"),
    (abi::RESAY_CAP_GREETS, "greets"),
];

pub(crate) const FILTER_CAPS: &[(u32, &str)] =
    &[(abi::RESAY_FILTER_CAP_ENDS, "peers say that their side ends")];

pub(crate) const NEEDS: &[(u32, &str)] = &[
    (abi::RESAY_NEED_MESSAGES, "whole messages"),
    (abi::RESAY_NEED_OFFLOAD, "a helper thread, as it may block"),
];

pub(crate) const IO_FLAGS: &[(u32, &str)] = &[
    (abi::RESAY_IO_BEGIN, "RESAY_IO_BEGIN"),
    (abi::RESAY_IO_END, "RESAY_IO_END"),
    (abi::RESAY_IO_EOF, "RESAY_IO_EOF"),
    (abi::RESAY_IO_DATAGRAM, "RESAY_IO_DATAGRAM"),
];

pub(crate) const LIBRARY_FLAGS: &[(u32, &str)] = &[(abi::RESAY_LIB_UNLOADABLE, "unloadable")];

pub(crate) fn threading_text(threading: u32) -> String {
    match threading {
        abi::RESAY_SHARED => "one instance, called by several threads at once".to_owned(),
        abi::RESAY_PER_WORKER => "one instance for each worker".to_owned(),
        abi::RESAY_SERIAL => "one instance behind a lock".to_owned(),
        other => format!("unknown ({other})"),
    }
}

/// The name of a signal.
pub(crate) fn signal_text(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGABRT => "SIGABRT",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGKILL => "SIGKILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGXCPU => "SIGXCPU",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// `64 KiB` and the like.
pub(crate) fn bytes_text(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    match bytes {
        0 => "0 B".to_owned(),
        n if n.is_multiple_of(MIB) => format!("{} MiB", n / MIB),
        n if n.is_multiple_of(KIB) => format!("{} KiB", n / KIB),
        n => format!("{n} B"),
    }
}

/// `20 s`, `1.5 s`, `200 ms`.
pub(crate) fn duration_text(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

/// One line that can be printed, of a bounded length.
pub(crate) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(CHARS_MAX)
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// A C string of the plugin; `Err` says what is wrong with it. NULL is `Ok(None)`.
///
/// # Safety
/// `pointer` is NULL or NUL-ended.
pub(crate) unsafe fn c_text(pointer: *const c_char) -> Result<Option<String>, &'static str> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| "is not UTF-8")?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_sizes() {
        assert_eq!(bits_text(3, CAPS), "bytewise, observer");
        assert_eq!(bits_text(0, CAPS), "none");
        assert_eq!(bits_text(0x101, CAPS), "bytewise, unknown bits 0x100");
        assert_eq!([16, 4096, 1 << 20].map(bytes_text), ["16 B", "4 KiB", "1 MiB"]);
        assert_eq!(one_line("a\n\tb \x1b[m"), "a b [m");
    }
}
