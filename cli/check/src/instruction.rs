//! How an x86-64 instruction writes to memory: as far as needed to tell atomic writes from others.

/// How an instruction writes to its operand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// No other processor sees or makes a change in the middle: LOCK, or XCHG.
    Atomic,
    /// It reads and writes the operand, and another processor can write in between.
    ReadModifyWrite,
    /// It writes only. Up to eight aligned bytes it may be an atomic store: the instruction is the same.
    Store,
}

/// The access of the instruction that these bytes begin with, given that it writes to memory.
pub(crate) fn access(code: &[u8]) -> Access {
    let mut rest = code;
    let mut is_locked = false;
    while let Some((prefix, after)) = rest.split_first() {
        match prefix {
            0xf0 => is_locked = true,
            0x66 | 0x67 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf2 | 0xf3 | 0x40..=0x4f => {}
            _ => break,
        }
        rest = after;
    }
    if is_locked {
        return Access::Atomic;
    }
    // Of a ModRM byte, the three bits that select an operation.
    let operation = |at: usize| rest.get(at).map_or(0, |byte| byte >> 3 & 7);
    let reads = match (rest.first(), rest.get(1)) {
        (Some(0x86 | 0x87), _) => return Access::Atomic,
        // BTS, BTR, BTC, CMPXCHG, XADD, and the same with a constant or wider.
        (Some(0x0f), Some(0xab | 0xb3 | 0xbb | 0xb0 | 0xb1 | 0xc0 | 0xc1)) => true,
        (Some(0x0f), Some(0xba)) => operation(2) > 4,
        (Some(0x0f), Some(0xc7)) => operation(2) == 1,
        (Some(0x0f), _) => false,
        // ADD, OR, ADC, SBB, AND, SUB, XOR of a register to memory.
        (Some(byte @ 0x00..=0x31), _) => byte & 7 < 2,
        // The same with a constant; 7 is CMP.
        (Some(0x80 | 0x81 | 0x83), _) => operation(1) != 7,
        // Rotations and shifts.
        (Some(0xc0 | 0xc1 | 0xd0..=0xd3), _) => true,
        (Some(0xf6 | 0xf7), _) => matches!(operation(1), 2 | 3), // NOT, NEG
        (Some(0xfe | 0xff), _) => operation(1) < 2,              // INC, DEC
        _ => false,
    };
    if reads { Access::ReadModifyWrite } else { Access::Store }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        for (code, expected) in [
            (&[0xf0, 0x83, 0x05, 0, 0, 0, 0, 1][..], Access::Atomic), // lock addl $1, x(%rip)
            (&[0xf0, 0x48, 0x0f, 0xc1, 0x05], Access::Atomic),        // lock xadd %rax, x(%rip)
            (&[0x48, 0x87, 0x05], Access::Atomic),                    // xchg %rax, x(%rip)
            (&[0x83, 0x05, 0, 0, 0, 0, 1], Access::ReadModifyWrite),  // addl $1, x(%rip)
            (&[0x48, 0x01, 0x35], Access::ReadModifyWrite),           // add %rsi, x(%rip)
            (&[0x66, 0xff, 0x05], Access::ReadModifyWrite),           // incw x(%rip)
            (&[0x48, 0x0f, 0xc1, 0x05], Access::ReadModifyWrite),     // xadd %rax, x(%rip)
            (&[0x89, 0x05], Access::Store),                           // mov %eax, x(%rip)
            (&[0x48, 0xc7, 0x05], Access::Store),                     // movq $1, x(%rip)
            (&[0x0f, 0x11, 0x05], Access::Store),                     // movups %xmm0, x(%rip)
            (&[0xf3, 0xa4], Access::Store),                           // rep movsb
            (&[0xc5, 0xfe, 0x7f, 0x05], Access::Store),               // vmovdqu %ymm0, x(%rip)
            (&[], Access::Store),
        ] {
            assert_eq!(access(code), expected, "{code:02x?}");
        }
    }
}
