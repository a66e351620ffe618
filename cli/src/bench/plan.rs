//! What is to be done, checked.

use crate::tls::Tls;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    /// Where the URL is one of TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) threads: usize,
    /// The core that the load runs on, if on one.
    pub(crate) core: Option<usize>,
    pub(crate) load: resay_load::Plan,
}
