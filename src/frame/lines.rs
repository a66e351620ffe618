//! Lines: a message ends with LF; a CR before it belongs to the line end.

use super::{Found, TooLong};

pub(super) fn find(window: &[u8], scanned: usize, max: usize) -> Result<Option<Found>, TooLong> {
    let unseen = window.get(scanned..).unwrap_or_default();
    let Some(feed) = memchr::memchr(b'\n', unseen).map(|at| scanned + at) else {
        // One byte more may be the CR of a line that is just not too long.
        return if window.len() > max + 1 { Err(TooLong { max }) } else { Ok(None) };
    };
    let end = match feed.checked_sub(1) {
        Some(before) if window.get(before) == Some(&b'\r') => before,
        _ => feed,
    };
    if end > max {
        return Err(TooLong { max });
    }
    Ok(Some(Found { body: 0..end, len: feed + 1 }))
}
