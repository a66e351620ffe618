//! `libcorrupt.so`: the table of `corrupt`, exported.

resay_plugin::export!(resay_transforms::corrupt::TABLE);
