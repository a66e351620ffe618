//! Frames as a client writes and reads them.

use resay::options::Frame;

use crate::error::ScriptError;

/// Appends a message in its frame; fails where the frame cannot say how long it is.
pub(crate) fn write(frame: &Frame, message: &[u8], out: &mut Vec<u8>) -> Result<(), ScriptError> {
    let too_long = || ScriptError::TooLong { bytes: message.len(), frame: frame.clone() };
    let length = u32::try_from(message.len()).map_err(|_| too_long())?;
    let short = || u16::try_from(message.len()).map_err(|_| too_long());
    match frame {
        Frame::Len8 => out.push(u8::try_from(message.len()).map_err(|_| too_long())?),
        Frame::Len16Be => out.extend(short()?.to_be_bytes()),
        Frame::Len16Le => out.extend(short()?.to_le_bytes()),
        Frame::Len32Be => out.extend(length.to_be_bytes()),
        Frame::Len32Le => out.extend(length.to_le_bytes()),
        Frame::Varint => {
            let mut rest = length;
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        _ => {}
    }
    out.extend_from_slice(message);
    match frame {
        Frame::Lines => out.push(b'\n'),
        Frame::Delimiter(end) => out.extend_from_slice(end),
        _ => {}
    }
    Ok(())
}

/// How long the first frame of `window` is, if all of it is there. Where the bytes do not say, it is as long as
/// expected.
pub(crate) fn first_len(frame: &Frame, window: &[u8], expected: usize) -> Option<usize> {
    let len = match (frame, window) {
        (Frame::Lines, _) => return window.iter().position(|&byte| byte == b'\n').map(|at| at + 1),
        (Frame::Delimiter(end), _) if !end.is_empty() => {
            return window.windows(end.len()).position(|part| part == end).map(|at| at + end.len());
        }
        (Frame::Len8, &[a, ..]) => 1 + usize::from(a),
        (Frame::Len16Be, &[a, b, ..]) => 2 + usize::from(u16::from_be_bytes([a, b])),
        (Frame::Len16Le, &[a, b, ..]) => 2 + usize::from(u16::from_le_bytes([a, b])),
        (Frame::Len32Be, &[a, b, c, d, ..]) => 4 + u32::from_be_bytes([a, b, c, d]) as usize,
        (Frame::Len32Le, &[a, b, c, d, ..]) => 4 + u32::from_le_bytes([a, b, c, d]) as usize,
        (Frame::Varint, _) => {
            let width = window.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
            let groups = window.iter().take(width).enumerate();
            let length = groups.fold(0u64, |sum, (at, byte)| sum | u64::from(byte & 0x7f) << (7 * at));
            width + usize::try_from(length).ok()?
        }
        (Frame::Len8 | Frame::Len16Be | Frame::Len16Le | Frame::Len32Be | Frame::Len32Le, _) => return None,
        _ => expected,
    };
    (window.len() >= len).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let frames = "lines delim:0d0a delim:00 len8 len16be len16le len32be len32le varint fixed:200 raw";
        for text in frames.split(' ') {
            let frame: Frame = text.parse().unwrap();
            let mut wire = Vec::new();
            write(&frame, &[b'x'; 200], &mut wire).unwrap();
            let one = wire.len();
            write(&frame, b"next", &mut wire).unwrap();
            assert_eq!(first_len(&frame, &wire, 200), Some(one), "{text}");
            assert!((0..one).all(|cut| first_len(&frame, &wire[..cut], 200).is_none()), "{text}");
        }
        assert!(write(&Frame::Len8, &[0; 256], &mut Vec::new()).unwrap_err().to_string().contains("len8"));
    }
}
