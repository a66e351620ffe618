//! A moment as RFC 3339 writes it, in UTC: `2025-11-22T10:44:43.123Z`.

/// How long it is.
pub(crate) const BYTES: usize = 24;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// 400 years, after which the calendar repeats itself.
const ERA_DAYS: u64 = 146_097;
const ERA_YEARS: u64 = 400;

/// The time so many milliseconds after the beginning of 1970. The year 9999 is followed by the year 0.
pub(crate) fn rfc3339(unix_ms: u64) -> [u8; BYTES] {
    let (year, month, day) = date(unix_ms / DAY_MS);
    let ms = unix_ms % DAY_MS;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (end, digits, number) in [
        (4, 4, year),
        (7, 2, month),
        (10, 2, day),
        (13, 2, ms / 3_600_000),
        (16, 2, ms / 60_000 % 60),
        (19, 2, ms / 1000 % 60),
        (23, 3, ms % 1000),
    ] {
        let mut rest = number;
        for place in (end - digits..end).rev() {
            text[place] += (rest % 10) as u8;
            rest /= 10;
        }
    }
    text
}

/// Year, month and day, so many days after the beginning of 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Years are counted from March here, so that a leap day is the last of its year, and eras from the year 0.
    const DAYS_FROM_0000_03_01: u64 = 719_468;
    let days = days + DAYS_FROM_0000_03_01;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let leap_days = |day: u64| day / 1460 - day / 36_524 + day / (ERA_DAYS - 1);
    let year_of_era = (day_of_era - leap_days(day_of_era)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30, 31 days, and again.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * ERA_YEARS + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_000, "2001-09-09T01:46:40.000Z"),
            (1_763_808_283_123, "2025-11-22T10:44:43.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(core::str::from_utf8(&rfc3339(unix_ms)).unwrap(), text);
        }
        rfc3339(u64::MAX);
    }

    #[test]
    fn every_day_of_an_era_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=ERA_DAYS {
            assert_eq!(date(days), (year, month, day));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
