//! `libslice.so`: the table of `slice`, exported.

resay_plugin::export!(resay_transforms::slice::TABLE);
