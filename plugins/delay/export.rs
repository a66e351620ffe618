//! `libdelay.so`: the table of `delay`, exported.

resay_plugin::export!(resay_transforms::delay::TABLE);
