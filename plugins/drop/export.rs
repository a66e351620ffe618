//! `libdrop.so`: the table of `drop`, exported.

resay_plugin::export!(resay_transforms::drop::TABLE);
