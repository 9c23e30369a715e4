//! Lists, page by page, to an end: a list that does not get further, or never ends, is an error. It knows nothing of
//! what is listed.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Call, Client, Error};

/// The most that OpenAI lists at once.
pub(super) const MAX_PAGE_SIZE: u32 = 100;
/// No list has more pages.
const MAX_PAGES: usize = 1_000;

/// One page of a list, and where the next one begins.
#[derive(Clone, Debug)]
pub(super) struct Page<T> {
    /// What is on the page, in OpenAI's order.
    pub(super) items: Vec<T>,
    /// What to pass as `after` for the next page; `None` on the last.
    pub(super) next: Option<String>,
}

/// How far a list has been read, and until when it may be.
#[derive(Debug)]
pub struct Pages {
    after: Option<String>,
    /// Where pages began, so that none is read twice.
    seen: HashSet<String>,
    is_whole: bool,
    deadline: Instant,
}

impl Pages {
    /// The beginning of a list that is read within this time.
    pub fn within(time: Duration) -> Self {
        Self { after: None, seen: HashSet::new(), is_whole: false, deadline: Instant::now() + time }
    }

    /// The same list goes on for this time from now.
    pub fn go_on_for(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Whether nothing was read yet: then a 404 is about the list, and not about where the next page begins.
    pub fn is_at_start(&self) -> bool {
        self.after.is_none() && !self.is_whole
    }

    /// Whether all was read.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// A client that has patience for what is left of the time; `None` if all was read.
    pub(super) fn client(&self, client: &Client, call: Call) -> Result<Option<Client>, Error> {
        if self.is_whole {
            return Ok(None);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut { call });
        }
        Ok(Some(client.for_work(client.urgency, client.max_wait.min(left))))
    }

    /// Takes the page that was read.
    pub(super) fn accept<T>(&mut self, call: Call, page: Page<T>) -> Result<Vec<T>, Error> {
        if page.items.len() > MAX_PAGE_SIZE as usize {
            return Err(Error::malformed(call, "a page of the list is longer than was asked for"));
        }
        match &page.next {
            Some(_) if self.seen.len() + 1 >= MAX_PAGES => {
                let reason = format!("the list does not end after {MAX_PAGES} pages");
                return Err(Error::malformed(call, reason));
            }
            Some(_) if page.items.is_empty() => {
                return Err(Error::malformed(call, "the list goes on after an empty page"));
            }
            Some(next) if !self.seen.insert(next.clone()) => {
                return Err(Error::malformed(call, "the list goes back to a page before"));
            }
            Some(_) => {}
            None => self.is_whole = true,
        }
        self.after = page.next;
        Ok(page.items)
    }
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
    /// Takes the page. One that goes on but does not say where is refused.
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

    fn read(pages: &mut Pages, items: &[&str], next: Option<&str>) -> Result<usize, String> {
        let items = items.iter().map(ToString::to_string).collect();
        let page = Page::<String> { items, next: next.map(ToOwned::to_owned) };
        pages.accept(Call::ListKeys, page).map(|items| items.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_list_that_goes_round_or_on_without_items_is_refused() {
        let mut pages = Pages::within(Duration::from_secs(1));
        assert!(pages.is_at_start());
        assert_eq!(read(&mut pages, &["a"], Some("a")), Ok(1));
        assert!(!pages.is_at_start());
        assert_eq!(read(&mut pages, &["b"], Some("b")), Ok(1));
        assert!(read(&mut pages, &["a"], Some("a")).unwrap_err().contains("goes back to a page before"));
        assert!(read(&mut pages, &[], Some("c")).unwrap_err().contains("goes on after an empty page"));
        assert!(read(&mut pages, &["x"; 101], None).unwrap_err().contains("longer than was asked for"));
        assert!(!pages.is_whole());
        assert_eq!(read(&mut pages, &["c"; 100], None), Ok(100));
        assert!(pages.is_whole());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_read_no_longer_than_its_time_and_no_further_than_the_last_page() {
        let client = super::super::tests::server::client("http://127.0.0.1:1");
        let mut pages = Pages::within(Duration::from_secs(1));
        let turn = |pages: &Pages| pages.client(&client, Call::ListKeys);
        assert_eq!(turn(&pages).unwrap().unwrap().max_wait, Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(turn(&pages), Err(Error::TimedOut { .. })));
        pages.go_on_for(Duration::from_secs(60));
        assert_eq!(turn(&pages).unwrap().unwrap().max_wait, client.max_wait);
        read(&mut pages, &[], None).unwrap();
        assert!(turn(&pages).unwrap().is_none());
    }

    #[test]
    fn a_list_that_does_not_get_further_is_refused() {
        assert!(page(r#"{"data":[],"has_more":true}"#, None).is_err());
        assert!(page(r#"{"data":["b"],"has_more":true}"#, Some("b")).is_err());
    }
}
