//! `libhold.so`: the table of `hold`, exported.

resay_plugin::export!(resay_transforms::hold::TABLE);
