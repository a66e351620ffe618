//! `libtls.so`, the filter as a plugin file.
resay_plugin::export_filters!(resay_tls::TABLE);
