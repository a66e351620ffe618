//! uppercase
