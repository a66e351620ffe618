//! Messages that end with a line feed or with bytes of one's own choice.

use memchr::memmem::Finder;

use super::found::{Found, TooLong};
use crate::bug;

/// A message ends with LF; a CR before it belongs to the line end.
pub(super) fn find_line(window: &[u8], scanned: usize, max: usize) -> Result<Option<Found>, TooLong> {
    let unseen = bug::part(window, scanned..);
    let Some(feed) = memchr::memchr(b'\n', unseen).map(|at| scanned + at) else {
        // One byte more may be the CR of a line that is just not too long.
        return if window.len() > max.saturating_add(1) { Err(TooLong { max }) } else { Ok(None) };
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

/// A message ends with the bytes that `end` finds.
pub(super) fn find(
    window: &[u8],
    scanned: usize,
    end: &Finder<'static>,
    max: usize,
) -> Result<Option<Found>, TooLong> {
    let width = end.needle().len();
    // The end may have begun in the bytes that were scanned before.
    let from = scanned.saturating_sub(width - 1);
    let unseen = bug::part(window, from..);
    let Some(at) = end.find(unseen).map(|at| from + at) else {
        let longest_unfinished = max.saturating_add(width - 1);
        return if window.len() > longest_unfinished { Err(TooLong { max }) } else { Ok(None) };
    };
    if at > max {
        return Err(TooLong { max });
    }
    Ok(Some(Found { body: 0..at, len: at + width }))
}
