//! `lowercase` as a shared library: the export, apart from the table, so that nothing else links it.

resay_plugin::export!(resay_lowercase::TABLE);
