//! The plugin ABI.
#![allow(missing_docs)]
pub mod abi;
