//! What both directions share: the alphabets, and the options as they are read.

use resay_plugin::{Error, Options, Setup};

/// Characters and their values: 64 of them.
pub(crate) type Alphabet = &'static [u8; 64];
pub(crate) const STANDARD: Alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
pub(crate) const URL: Alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
pub(crate) const PAD: u8 = b'=';

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Encode,
    Decode,
}

pub(crate) fn mode(options: &Options<'_>) -> Result<Mode, Error> {
    options.choice("mode", &[("encode", Mode::Encode), ("decode", Mode::Decode)])
}

/// What both directions are set up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) is_url: bool,
    pub(crate) is_padded: bool,
}

impl Format {
    pub(crate) fn read(setup: &Setup<'_>) -> Result<Self, Error> {
        mode(&setup.options)?; // a value that is no mode chose the table that encodes
        let is_url = setup.options.choice("alphabet", &[("standard", false), ("url", true)])?;
        Ok(Self { is_url, is_padded: setup.options.bool("padding")? })
    }
}
