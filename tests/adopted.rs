//! Sockets that somebody else has opened: what they have from before keeps nobody from being answered, and what cannot be
//! adopted stays as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "adopted/connections.rs"]
mod connections;
#[path = "adopted/datagrams.rs"]
mod datagrams;
#[path = "adopted/kinds.rs"]
mod kinds;
#[path = "adopted/refused.rs"]
mod refused;
