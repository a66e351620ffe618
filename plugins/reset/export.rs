//! `libreset.so`: the table of `reset`, exported.

resay_plugin::export!(resay_transforms::reset::TABLE);
