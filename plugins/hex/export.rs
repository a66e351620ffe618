//! `libhex.so`: the table of `hex`, exported.

resay_plugin::export!(resay_transforms::hex::TABLE);
