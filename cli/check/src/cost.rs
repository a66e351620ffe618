//! What a call costs.

use crate::words::json_text;

/// The median cost of a call with so many bytes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// The transform's id.
    pub transform: String,
    /// The length of the input.
    pub bytes: usize,
    /// Of one message, whatever number of calls it took.
    pub nanoseconds: f64,
}

impl Cost {
    /// Input by time.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.nanoseconds.max(f64::MIN_POSITIVE)
    }

    pub(crate) fn to_json(&self) -> String {
        format!(
            "{{\"transform\":{},\"bytes\":{},\"nanoseconds\":{:.2},\"gigabytes_per_second\":{:.4}}}",
            json_text(&self.transform),
            self.bytes,
            self.nanoseconds,
            self.gigabytes_per_second()
        )
    }

    pub(crate) fn from_data(transform: &str, data: &[String]) -> Vec<Cost> {
        data.iter()
            .filter_map(|line| {
                let (bytes, nanoseconds) = line.split_once(' ')?;
                let (bytes, nanoseconds) = (bytes.parse().ok()?, nanoseconds.parse().ok()?);
                Some(Cost { transform: transform.to_owned(), bytes, nanoseconds })
            })
            .collect()
    }
}
