//! A frame's own time: RFC 3339 text or seconds since 1970, to microseconds.
//!
//! Promise: the unit is never guessed. A number that can only be milliseconds is refused in words.

use crate::base::UnixMicros;

// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Seconds since 1970-01-01T00:00:00Z, fractions allowed.
pub(super) fn seconds(seconds: f64) -> Result<UnixMicros, String> {
    if !(0.0..=LAST_SECOND).contains(&seconds) {
        return Err(format!(
            "{seconds} is outside 1970 to 9999; a number means seconds since 1970 (not milliseconds)"
        ));
    }
    Ok(UnixMicros((seconds * 1e6).round() as u64))
}

/// `2026-11-24T01:57:00.25Z` or with an offset such as `+01:00`. Digits below the microsecond are
/// dropped; a leap second is the first of the next minute.
pub(super) fn rfc3339(text: &str) -> Result<UnixMicros, String> {
    parse(text.as_bytes()).ok_or_else(|| {
        let text = super::error::shortened(text);
        format!("{text:?} is no time from 1970 on in the form 2026-11-24T01:57:00Z")
    })
}

fn parse(text: &[u8]) -> Option<UnixMicros> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't' | b' ', ref clock @ ..] = text else {
        return None;
    };
    let &[h0, h1, b':', n0, n1, b':', s0, s1, ref rest @ ..] = clock else {
        return None;
    };
    let year = number(&[y0, y1, y2, y3])?;
    let month = number(&[m0, m1])?;
    let day = number(&[d0, d1])?;
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[n0, n1])?, number(&[s0, s1])?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && (second < 60 || (second == 60 && minute == 59));
    if !in_range {
        return None;
    }
    let (micros, zone) = match rest {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, zone) = rest.split_at(digits);
            let micros = (0..6)
                .fold(0, |sum, i| sum * 10 + fraction.get(i).map_or(0, |digit| i64::from(digit - b'0')));
            ((digits > 0).then_some(micros)?, zone)
        }
        zone => (0, zone),
    };
    let offset_minutes = match *zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (number(&[h0, h1])?, number(&[m0, m1])?);
            let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            if sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    u64::try_from((minutes * 60 + second) * 1_000_000 + micros).ok().map(UnixMicros)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719 468 days from 0000-03-01 to 1970-01-01; (153 m + 2) / 5: days of the months from March on.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_met() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000-02-29T12:00:00Z", 951_825_600.0),
            ("2000-03-01T00:00:00+01:00", 951_865_200.0),
            ("2026-11-24T01:57:00.25Z", 1_795_485_420.25),
            ("2026-11-23T20:57:00.250000999-05:00", 1_795_485_420.25),
            ("2016-12-31T23:59:60Z", 1_483_228_800.0),
            ("9999-12-31 23:59:59z", LAST_SECOND),
        ] {
            assert_eq!(rfc3339(text), super::seconds(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T01:57:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T01:57:00.Z",
            "2026-11-24T01:57:00+1:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-24T01:57:00Z ",
        ] {
            assert!(rfc3339(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn milliseconds_are_not_taken_for_seconds() {
        assert!(seconds(1_795_485_420_250.0).unwrap_err().contains("not milliseconds"));
        assert!(seconds(-1.0).is_err());
        assert!(seconds(f64::NAN).is_err());
        assert_eq!(seconds(1.5), Ok(UnixMicros(1_500_000)));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2110 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days_since_1970(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }
}
