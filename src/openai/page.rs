//! Reads lists page by page to their end. A list that repeats a page or never ends is an error.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::call::Request;
use super::{Call, Client, Error};

/// Largest page that OpenAI sends.
const MAX_PAGE_SIZE: u32 = 100;
/// Maximum number of pages of a list.
const MAX_PAGES: usize = 1_000;

/// One page of a list, with the cursor of the next page.
#[derive(Clone, Debug)]
struct Page<T> {
    /// Items of the page, in OpenAI's order.
    items: Vec<T>,
    /// Cursor of the next page; `None` on the last page.
    next: Option<String>,
}

/// Position in a list that is being read, with a deadline.
#[derive(Debug)]
pub struct Pages {
    after: Option<String>,
    /// Cursors of earlier pages. A repeated cursor is an error.
    seen: HashSet<String>,
    is_whole: bool,
    deadline: Instant,
}

impl Pages {
    /// The start of a list. Reading it must end within this time.
    pub fn within(time: Duration) -> Self {
        Self { after: None, seen: HashSet::new(), is_whole: false, deadline: Instant::now() + time }
    }

    /// Sets the deadline to this time from now.
    pub fn go_on_for(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// True before the first page.
    fn is_at_start(&self) -> bool {
        self.after.is_none() && !self.is_whole
    }

    /// True after the last page.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// A client whose maximum wait is the remaining time; `None` after the last page.
    fn client(&self, client: &Client, call: Call) -> Result<Option<Client>, Error> {
        if self.is_whole {
            return Ok(None);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut { call });
        }
        Ok(Some(client.for_work(client.urgency, client.max_wait.min(left))))
    }

    /// Checks the page and moves to the next one.
    fn accept<T>(&mut self, call: Call, page: Page<T>) -> Result<Vec<T>, Error> {
        if page.items.len() > MAX_PAGE_SIZE as usize {
            return Err(Error::malformed(call, "a page of the list is longer than requested"));
        }
        match &page.next {
            Some(_) if self.seen.len() + 1 >= MAX_PAGES => {
                let reason = format!("the list does not end after {MAX_PAGES} pages");
                return Err(Error::malformed(call, reason));
            }
            Some(_) if page.items.is_empty() => {
                return Err(Error::malformed(call, "the list continues after an empty page"));
            }
            Some(next) if !self.seen.insert(next.clone()) => {
                return Err(Error::malformed(call, "the list repeats a page"));
            }
            Some(_) => {}
            None => self.is_whole = true,
        }
        self.after = page.next;
        Ok(page.items)
    }
}

impl Client {
    /// The next page of the list that `request` asks for; `None` after the last page. An error with [`Error::is_gone`] proves
    /// that the list's project or provider is gone.
    pub(super) async fn next_page<T: DeserializeOwned>(
        &self,
        pages: &mut Pages,
        request: Request,
        id: fn(&T) -> &str,
    ) -> Result<Option<Vec<T>>, Error> {
        let call = request.call;
        let Some(client) = pages.client(self, call)? else { return Ok(None) };
        let page: WirePage<T> = match client.send(request.page(pages.after(), MAX_PAGE_SIZE)).await {
            Err(error) if error.is_gone() && !pages.is_at_start() => return Err(cursor_gone(call, &error)),
            page => page?,
        };
        let page = page.take(call, pages.after(), id)?;
        pages.accept(call, page).map(Some)
    }

    /// The whole list that `request` asks for. The search ends after this client's maximum wait.
    pub(super) async fn whole<T: DeserializeOwned>(
        &self,
        request: &Request,
        id: fn(&T) -> &str,
    ) -> Result<Vec<T>, Error> {
        let (mut all, mut pages) = (Vec::new(), Pages::within(self.max_wait));
        while let Some(page) = self.next_page(&mut pages, request.clone(), id).await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// The error for a 404 after the first page. The cursor was deleted meanwhile, so the 404 does not prove that anything else
/// is gone.
fn cursor_gone(call: Call, error: &Error) -> Error {
    let reason = "the object after which the next page of the list begins is gone".to_owned();
    Error::Malformed { call, reason, request_id: error.request_id().map(ToOwned::to_owned) }
}

/// A page as OpenAI sends it.
#[derive(Deserialize)]
pub(super) struct WirePage<T> {
    data: Vec<T>,
    has_more: bool,
    #[serde(default)]
    last_id: Option<String>,
}

impl<T> WirePage<T> {
    /// Checks the page. A page with `has_more` and no new cursor is an error.
    fn take(self, call: Call, after: Option<&str>, id: fn(&T) -> &str) -> Result<Page<T>, Error> {
        let last = self.last_id.or_else(|| self.data.last().map(|item| id(item).to_owned()));
        let next = match last {
            _ if !self.has_more => None,
            Some(last) if Some(last.as_str()) != after => Some(last),
            _ => return Err(Error::malformed(call, "the list continues without a cursor")),
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
        assert!(read(&mut pages, &["a"], Some("a")).unwrap_err().contains("repeats a page"));
        assert!(read(&mut pages, &[], Some("c")).unwrap_err().contains("continues after an empty page"));
        assert!(read(&mut pages, &["x"; 101], None).unwrap_err().contains("longer than requested"));
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
