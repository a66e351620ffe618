//! AF_UNIX: files, modes, names, descriptors that are sent along, records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod unix {
    mod datagrams;
    mod descriptors;
    mod files;
    mod records;
}

const SCHEMES: [&str; 3] = ["unix", "unix-dgram", "unix-seqpacket"];
const ANY_PORT: &str = "tcp://127.0.0.1:0";
