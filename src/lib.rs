//! Resay.
mod error;
