//! Sixteen yes-or-no facts of one socket in two bytes.

/// A set of bits; each driver names its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const fn of(bits: u16) -> Flags {
        Flags(bits)
    }

    /// Whether these bits are set, and no other.
    #[inline]
    pub(crate) fn is(self, bits: u16) -> bool {
        self.0 == bits
    }

    /// Whether all of `bits` are set.
    #[inline]
    pub(crate) fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// Whether one of `bits` is set.
    #[inline]
    pub(crate) fn has_any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }

    #[inline]
    pub(crate) fn clear(&mut self, bits: u16) {
        self.0 &= !bits;
    }

    #[inline]
    pub(crate) fn put(&mut self, bits: u16, value: bool) {
        if value {
            self.set(bits);
        } else {
            self.clear(bits);
        }
    }

    /// Sets `bits`; whether they were set before.
    #[inline]
    pub(crate) fn replace(&mut self, bits: u16) -> bool {
        let before = self.has(bits);
        self.set(bits);
        before
    }

    /// Clears `bits`; whether they were set before.
    #[inline]
    pub(crate) fn take(&mut self, bits: u16) -> bool {
        let before = self.has(bits);
        self.clear(bits);
        before
    }
}
