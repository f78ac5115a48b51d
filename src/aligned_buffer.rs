//! A buffer that `O_DIRECT` accepts.

/// The strictest alignment that `O_DIRECT` requires of a buffer's address: the largest logical block size in use.
const ALIGNMENT: usize = 4096;

/// A buffer whose first byte is on a 4 KiB boundary, created without `unsafe` by skipping the first bytes.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        assert!(
            start <= ALIGNMENT,
            "an alignment of bytes is always reached within itself"
        );
        Self { bytes, start, len }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_aligned_and_as_long_as_asked() {
        for len in [4096, 65536, 4 << 20] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.as_mut_slice().len(), len);
            assert!(
                buffer
                    .as_mut_slice()
                    .as_ptr()
                    .addr()
                    .is_multiple_of(ALIGNMENT)
            );
        }
    }
}
