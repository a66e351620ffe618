//! What a fuzzer calls: any bytes as a configuration file, as a request to the control socket, as an answer of one, and as a request for metrics. It
//! panics where a promise is broken. `fuzz/` has a program; `cargo test` calls it with the files of `fuzz/corpus/command/`.

use crate::{config, control, ctl, metrics};

/// The first byte says what the others are.
pub(crate) fn command(data: &[u8]) {
    match data {
        [b'r', request @ ..] => control::try_request(request),
        [b'h', request @ ..] => metrics::try_request(request),
        [b'a', answer @ ..] => ctl::client::try_answer(answer),
        [_, file @ ..] => config::command::try_file(file),
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_of_the_corpus_is_fine() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/command");
        let mut files: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", directory.display());
        files.sort();
        for file in files {
            let data = fs::read(&file).unwrap();
            let all = || (0..=data.len()).for_each(|end| super::command(&data[..end]));
            assert!(std::panic::catch_unwind(all).is_ok(), "{}", file.display());
        }
    }
}
