//! The widest vector instructions of the processor that runs the program, for loops in safe Rust.

/// Runs `work`, compiled for the widest vectors of this processor that this crate knows.
///
/// A plain loop over bytes is then vectorised for this processor, and not only for every processor of its family. The
/// check costs about 1 ns, too much for a few bytes. Only inlined functions gain, so mark the functions that `work` calls
/// `#[inline(always)]`.
///
/// ```
/// #[inline(always)]
/// fn invert(data: &mut [u8]) {
///     data.iter_mut().for_each(|byte| *byte = !*byte);
/// }
/// let mut data = [0; 1000];
/// resay_plugin::with_widest_vectors(|| invert(&mut data));
/// assert_eq!(data, [255; 1000]);
/// ```
#[inline]
pub fn with_widest_vectors<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(work) };
    }
    work()
}
