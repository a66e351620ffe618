//! Transforms: the grammar that names them, where they are found, and the table that is called.

#[allow(unsafe_code)] // Unsafe boundary: plugins.
pub(crate) mod library;
pub(crate) mod registry;
pub mod spec;

/// Whether `text` can be a transform's id: `[a-z0-9][a-z0-9._-]*`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.next().is_some_and(first) && bytes.all(|b| first(b) || matches!(b, b'.' | b'_' | b'-'))
}
