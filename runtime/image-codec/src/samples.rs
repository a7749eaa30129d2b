//! Between floats and bytes.

/// 255 times each value, cut to 0..255 and truncated: what ComfyUI saves. Not-a-number becomes 0.
pub fn f32_to_u8_truncating(values: &[f32]) -> Vec<u8> {
    // A cast from float to integer truncates and saturates.
    values.iter().map(|value| (255.0 * value) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_truncated_and_cut_to_range() {
        let values = [0.0, 0.999, 1.0, 1.5, -0.5, 0.5, f32::NAN, f32::INFINITY, 1.0 / 255.0];
        assert_eq!(f32_to_u8_truncating(&values), [0, 254, 255, 255, 0, 127, 0, 255, 1]);
    }
}
