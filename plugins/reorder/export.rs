//! `libreorder.so`: the table of `reorder`, exported.

resay_plugin::export!(resay_transforms::reorder::TABLE);
