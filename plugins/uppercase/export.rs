//! `libuppercase.so`: the table of `uppercase`, exported.

resay_plugin::export!(resay_transforms::uppercase::TABLE);
