//! Figures in few letters.

/// `0`, `0.50`, `12`, `1.23k`, `45.6M`: at most five letters below a thousand billions.
pub(super) fn short(figure: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let (mut scaled, mut unit) = (figure, 0);
    // What would be rounded to 1000 has the next unit.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let digits = match scaled {
        whole if unit == 0 && (whole >= 9.95 || whole.fract() == 0.0) => 0,
        some if unit == 0 && some >= 0.995 => 1,
        few if few < 9.995 => 2,
        some if some < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{}", UNITS.get(unit).unwrap_or(&""))
}

/// A sum: all of its digits, up to six.
pub(super) fn count(count: u64) -> String {
    if count < 1_000_000 { count.to_string() } else { short(count as f64) }
}

/// `83%`; `-` where it is not known.
pub(super) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0))
}

/// A bound of a histogram: `200ns`, `50us`, `1s`.
fn bound(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{}ms", ns / 1_000_000),
        _ => format!("{}s", ns / 1_000_000_000),
    }
}

/// Of a percentile: `-` where no call was timed.
pub(super) fn percentile(bound_ns: Option<u64>, timed_calls: u64) -> String {
    match bound_ns {
        Some(ns) => bound(ns),
        None if timed_calls > 0 => ">1s".to_owned(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let table = [
            (0.0, "0"),
            (0.04, "0.04"),
            (0.5, "0.50"),
            (1.25, "1.2"),
            (7.0, "7"),
            (9.96, "10"),
            (12.3, "12"),
            (999.4, "999"),
            (999.5, "1.00k"),
            (1234.0, "1.23k"),
            (45_600_000.0, "45.6M"),
            (999_600.0, "1.00M"),
            (123_456.0, "123k"),
            (5e15, "5000T"),
        ];
        for (figure, text) in table {
            assert_eq!(short(figure), text, "{figure}");
        }
    }

    #[test]
    fn percentiles_have_units() {
        let table =
            [(10, "10ns"), (500, "500ns"), (1_000, "1us"), (20_000_000, "20ms"), (1_000_000_000, "1s")];
        for (ns, text) in table {
            assert_eq!(percentile(Some(ns), 1), text);
        }
        assert_eq!((count(999_999), count(1_000_000)), ("999999".to_owned(), "1.00M".to_owned()));
        assert_eq!((percentile(None, 0), percentile(None, 3)), ("-".to_owned(), ">1s".to_owned()));
        assert_eq!((share(Some(0.826)), share(None)), ("83%".to_owned(), "-".to_owned()));
    }
}
