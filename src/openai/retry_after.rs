//! Reads the wait time that OpenAI requests, from the headers or else from the message. RFC 9110 section 10.2.3:
//! `Retry-After = HTTP-date / delay-seconds`. OpenAI also sends the more exact `Retry-After-Ms`.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Wait time in the headers; `None` if missing or malformed. `now` is the time of the server that set them, if it is known.
pub(super) fn in_headers(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|text| seconds(text, 0.001));
    milliseconds.or_else(|| {
        let text = text(RETRY_AFTER.as_str())?;
        seconds(text, 1.0).or_else(|| until(text, now))
    })
}

/// Wait time in a message: `after 6.937 seconds`, `in 20ms`, `in 1m30s`.
pub(super) fn in_message(message: &str) -> Option<Duration> {
    let words: Vec<&str> = message.split_whitespace().collect();
    (0..words.len()).find_map(|at| {
        let announced = at > 0 && matches!(words[at - 1], "in" | "after");
        let unit = words.get(at + 1).copied().unwrap_or_default();
        let of_two = || seconds(words[at], scale(unit)?);
        of_two().or_else(|| announced.then(|| compound(words[at]))?)
    })
}

/// A duration in one word, such as `1m30.5s`.
fn compound(word: &str) -> Option<Duration> {
    let mut rest = word.trim_end_matches(['.', ',', ';', ')']);
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()));
        sum = sum.checked_add(seconds(number, scale(unit)?)?)?;
        rest = tail;
    }
    (!sum.is_zero()).then_some(sum)
}

/// Seconds in a unit.
fn scale(unit: &str) -> Option<f64> {
    match unit.trim_end_matches(['.', ',', ';', ')']) {
        "ms" | "millisecond" | "milliseconds" => Some(0.001),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60.0),
        "h" | "hour" | "hours" => Some(3_600.0),
        _ => None,
    }
}

/// Accepts fractions, as OpenAI's SDK does.
fn seconds(text: &str, scale: f64) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
}

/// A date in the past means no wait.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, value.parse().unwrap());
        }
        in_headers(&map, httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap())
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
    fn a_message_is_read_in_every_form_that_was_seen() {
        let seen = "You've exceeded the rate limit, please slow down and try again";
        for (end, milliseconds) in [
            (" after 6.937 seconds.", 6_937),
            (" in 20ms. Visit https://platform.openai.com/account/rate-limits", 20),
            (" in 6s.", 6_000),
            (" in 250 ms", 250),
            (" in 1m30.5s.", 90_500),
            (" after 1 second", 1_000),
            (": 12 seconds are left", 12_000),
        ] {
            assert_eq!(
                in_message(&format!("{seen}{end}")),
                Some(Duration::from_millis(milliseconds)),
                "{end}"
            );
        }
        for end in [
            "",
            " later.",
            " in a moment",
            " in 5",
            " in .",
            " after -3 seconds",
            " in 1e400s",
            " in s",
            " after NaN seconds",
            " after infinity seconds",
            " after 6.937",
            " after 1e30h",
            " in ms.",
        ] {
            assert_eq!(in_message(&format!("{seen}{end}")), None, "{end}");
        }
        let limit = "Limit 3 requests per min. You're making too many requests; try again in 20s";
        assert_eq!(in_message(limit), Some(Duration::from_secs(20)));
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
