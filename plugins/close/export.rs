//! `libclose.so`: the table of `close`, exported.

resay_plugin::export!(resay_transforms::close::TABLE);
