//! `libtruncate.so`: the table of `truncate`, exported.

resay_plugin::export!(resay_transforms::truncate::TABLE);
