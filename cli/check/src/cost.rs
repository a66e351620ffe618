//! What a call costs.

use serde::ser::{Serialize, SerializeStruct, Serializer};

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

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Cost", 4)?;
        object.serialize_field("transform", &self.transform)?;
        object.serialize_field("bytes", &self.bytes)?;
        object.serialize_field("nanoseconds", &rounded(self.nanoseconds, 2))?;
        object.serialize_field("gigabytes_per_second", &rounded(self.gigabytes_per_second(), 4))?;
        object.end()
    }
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

/// Below this, a map() is much slower than a loop over bytes has to be. A loop with a branch that cannot be predicted
/// takes ten times as long as one without, even where the latter is not vectorised.
const SLOW_GIGABYTES_PER_SECOND: f64 = 0.5;
const SLOW_BYTES: usize = 64 * 1024;

/// What to do about a slow map(); `None`: it is fast enough.
pub(crate) fn hint(costs: &[Cost]) -> Option<String> {
    let cost = costs.iter().find(|cost| cost.bytes == SLOW_BYTES)?;
    let speed = cost.gigabytes_per_second();
    (speed < SLOW_GIGABYTES_PER_SECOND).then(|| {
        format!(
            "map() runs at {speed:.2} GB/s with 64 KiB. Compile with -O3 (Rust: --release), and write loops over bytes \
             without a branch, so that they can be vectorised: data[i] ^= (condition) << 5 instead of \
             if (condition) data[i] ^= 0x20"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slow_map_gets_a_hint() {
        let cost = |bytes, nanoseconds| Cost { transform: "flip".to_owned(), bytes, nanoseconds };
        assert_eq!(hint(&[cost(16, 100.0), cost(65_536, 60_000.0)]), None);
        assert_eq!(hint(&[cost(16, 100.0)]), None);
        let text = hint(&[cost(16, 10.0), cost(65_536, 1_000_000.0)]).unwrap();
        assert!(text.contains("0.07 GB/s") && text.contains("without a branch"), "{text}");
    }
}
