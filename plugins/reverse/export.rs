//! `libreverse.so`: the table of `reverse`, exported.

resay_plugin::export!(resay_transforms::reverse::TABLE);
