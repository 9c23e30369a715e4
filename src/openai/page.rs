//! One page of a list. It knows nothing of what is listed.

use serde::Deserialize;

use super::{Call, Error};

/// The most that OpenAI lists at once.
pub const LONGEST_PAGE: u32 = 100;

/// One page of a list, and where the next one begins.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on the page, in OpenAI's order.
    pub items: Vec<T>,
    /// What to pass as `after` for the next page; `None` on the last.
    pub next: Option<String>,
}

/// A page as OpenAI writes it.
#[derive(Deserialize)]
pub(super) struct WirePage<T> {
    data: Vec<T>,
    has_more: bool,
    #[serde(default)]
    last_id: Option<String>,
}

impl<T> WirePage<T> {
    /// Takes the page. One that goes on but does not get further would be read for ever, so it is refused.
    pub(super) fn take(self, call: Call, after: Option<&str>, id: fn(&T) -> &str) -> Result<Page<T>, Error> {
        let last = self.last_id.or_else(|| self.data.last().map(|item| id(item).to_owned()));
        let next = match last {
            _ if !self.has_more => None,
            Some(last) if Some(last.as_str()) != after => Some(last),
            _ => return Err(Error::malformed(call, "the list goes on but does not say where")),
        };
        Ok(Page { items: self.data, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(json: &str, after: Option<&str>) -> Result<Page<String>, Error> {
        serde_json::from_str::<WirePage<String>>(json).unwrap().take(Call::ListKeys, after, |id| id)
    }

    #[test]
    fn the_next_page_begins_after_the_last_id() {
        let next = |json| page(json, None).unwrap().next;
        assert_eq!(next(r#"{"data":["a","b"],"has_more":true,"last_id":"b"}"#).as_deref(), Some("b"));
        assert_eq!(next(r#"{"data":["a","b"],"has_more":true}"#).as_deref(), Some("b"));
        assert_eq!(next(r#"{"data":["a","b"],"has_more":false,"last_id":"b"}"#), None);
        assert_eq!(next(r#"{"data":[],"has_more":false,"last_id":null}"#), None);
    }

    #[test]
    fn a_list_that_does_not_get_further_is_refused() {
        assert!(page(r#"{"data":[],"has_more":true}"#, None).is_err());
        assert!(page(r#"{"data":["b"],"has_more":true}"#, Some("b")).is_err());
    }
}
