//! Transforms: the grammar that names them, where they are found, and the table that is called.

#[allow(unsafe_code)] // Unsafe boundary: plugins.
pub(crate) mod library;
pub(crate) mod registry;
pub mod spec;

pub(crate) use resay_plugin::inspect::is_name;
