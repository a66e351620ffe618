//! `libcrc32.so`: the table of `crc32`, exported.

resay_plugin::export!(resay_transforms::crc32::TABLE);
