//! `liblowercase.so`: the table of `lowercase`, exported.

resay_plugin::export!(resay_transforms::lowercase::TABLE);
