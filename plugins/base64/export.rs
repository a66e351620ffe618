//! `libbase64.so`: the table of `base64`, exported.

resay_plugin::export!(resay_transforms::base64::TABLE);
