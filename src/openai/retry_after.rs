//! Reads when OpenAI says to come back. RFC 9110 section 10.2.3: `Retry-After = HTTP-date / delay-seconds`; OpenAI
//! also sends `Retry-After-Ms`, which is the finer of the two.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How long the answer with these headers asks to wait; `None` if it does not say, or not in words we know.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|text| seconds(text, 1000.0));
    milliseconds.or_else(|| {
        let text = text(RETRY_AFTER.as_str())?;
        seconds(text, 1.0).or_else(|| until(text, now))
    })
}

/// OpenAI's own SDK takes fractions, so they do occur.
fn seconds(text: &str, divisor: f64) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number / divisor).ok())
}

/// A date in the past means now.
fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, value.parse().unwrap());
        }
        retry_after(&map, DateTime::parse_from_rfc2822("Wed, 21 Oct 2026 07:28:00 GMT").unwrap().into())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(read(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(
            read(&[("retry-after-ms", "250"), ("retry-after", "1")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT")]), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in ["", "soon", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(read(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(read(&[("retry-after-ms", "x"), ("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(read(&[]), None);
    }
}
