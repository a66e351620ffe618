//! What `resay bench`, the comparison with other servers (`benches/peers/`) and the long run (`benches/soak/`) share. It is no interface for others.

pub mod chart;
pub mod machine;
pub mod numbers;
pub mod process;

/// The middle of these values, or what lies between the two in the middle; `None`: there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let above = *sorted.get(middle)?;
    if sorted.len().is_multiple_of(2) {
        return Some((sorted.get(middle.wrapping_sub(1))? + above) / 2.0);
    }
    Some(above)
}

/// Text as it is written in HTML and SVG, in an attribute too.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        let medians = [median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])];
        assert_eq!(medians, [Some(2.0), Some(2.5), None]);
    }

    #[test]
    fn text_opens_no_element_and_ends_no_attribute() {
        assert_eq!(escaped("<b> & \"c\""), "&lt;b&gt; &amp; &quot;c&quot;");
    }
}
