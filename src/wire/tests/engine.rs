//! A scripted engine: the path of a request selects its behavior.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use crate::logical::{
    Answer, Backend, Entry, Error, Event, Factory, Lease, Request, Response, Setup, SpecialPaths, SystemView,
};

/// Mounts scripted engines and observes them.
#[derive(Clone)]
pub(super) struct Mounts {
    pub(super) seen: Arc<Seen>,
    notices: mpsc::UnboundedSender<String>,
}

/// Observations of the mounted engines.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) cleanups: AtomicUsize,
    pub(super) alive: AtomicUsize,
    /// Lets a `wait` request continue.
    pub(super) go_on: Notify,
}

/// Notices from the engines, in order.
pub(super) type Notices = mpsc::UnboundedReceiver<String>;

struct Engine {
    mounts: Mounts,
    uuid: String,
    system: Arc<dyn SystemView>,
}

impl Mounts {
    pub(super) fn new() -> (Self, Notices) {
        let (notices, receiver) = mpsc::unbounded_channel();
        (Self { seen: Arc::default(), notices }, receiver)
    }

    fn notice(&self, text: impl Into<String>) {
        self.notices.send(text.into()).unwrap_or_default();
    }
}

impl Factory for Mounts {
    fn mount(&self, setup: Setup) -> Result<Arc<dyn Backend>, Error> {
        match setup.config.get("refuse").map(String::as_str) {
            Some("panic") => panic!("refused in a panic"),
            Some(text) => return Err(Error::bad_request(text)),
            None => {}
        }
        self.seen.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Engine { mounts: self.clone(), uuid: setup.backend_uuid, system: setup.system }))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.mounts.seen.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Engine {
    fn special_paths(&self) -> SpecialPaths {
        SpecialPaths { seal_wrap_storage: vec!["config".to_owned()], ..SpecialPaths::default() }
    }

    async fn initialize(&self) -> Result<(), Error> {
        self.mounts.notice("initialized");
        Err(Error::internal("initialization failed").with_detail("for the log"))
    }

    async fn handle(&self, request: Request) -> Answer {
        let path = request.path.clone();
        if let Some(of) = path.strip_prefix("deregister/") {
            self.system.deregister_rotation_job(&request.mount_point, of).await?;
            return Ok(None);
        }
        match path.as_str() {
            "uuid" => Ok(Some(Response::of([("uuid", self.uuid.clone().into())]))),
            "echo" => Ok(Some(Response::new(request.data))),
            "size" => Ok(Some(Response::of([("size", request.data["text"].as_str().unwrap().len().into())]))),
            "big" => Ok(Some(Response::of([("text", Value::from("x".repeat(9 << 20)))]))),
            "lease" => {
                let ttl = Duration::from_secs(60);
                let lease = Lease { internal: request.data, ttl, max_ttl: ttl, renewable: false };
                Ok(Some(Response::default().with_lease(lease)))
            }
            "wait" => self.wait(request).await,
            "panic" => panic!("a panic with sk-secret"),
            "system" => self.system(request).await,
            _ => storage(request).await,
        }
    }

    async fn exists(&self, request: Request) -> Result<Option<bool>, Error> {
        match request.path.as_str() {
            "panic" => panic!("a panic with sk-secret"),
            "bad" => Err(Error::bad_request("the name is odd")),
            "unchecked" => Ok(None),
            path => Ok(Some(request.storage.get(path).await?.is_some())),
        }
    }

    fn invalidate(&self, key: &str) {
        self.mounts.notice(format!("invalidated {key}"));
    }

    async fn cleanup(&self) {
        self.mounts.seen.cleanups.fetch_add(1, Ordering::SeqCst);
        if self.uuid == "slow" {
            self.mounts.seen.go_on.notified().await;
            self.mounts.notice("cleaned up");
        }
    }
}

impl Engine {
    /// Waits until the caller is gone and `go_on` is notified.
    async fn wait(&self, request: Request) -> Answer {
        self.mounts.notice("waiting");
        request.cancelled.cancelled().await;
        self.mounts.notice("cancelled");
        self.mounts.seen.go_on.notified().await;
        request.storage.put(entry("finished")).await?;
        self.mounts.notice("finished");
        Ok(None)
    }

    async fn system(&self, request: Request) -> Answer {
        let system = &self.system;
        let event = Event { kind: "openai/creds-create", metadata: vec![("path", request.mount_point)] };
        system.send_event(event).await?;
        Ok(Some(Response::of([
            ("default", system.default_lease_ttl().await?.as_secs().into()),
            ("max", system.max_lease_ttl().await?.as_secs().into()),
            ("tainted", system.tainted().await?.into()),
            ("local", system.local_mount().await?.into()),
            ("writable", format!("{:?}", system.writable().await?).into()),
            ("shared", system.is_shared().await?.into()),
            ("version", system.vault_version().await?.into()),
            (
                "entities",
                vec![system.entity_name("entity-1").await?, system.entity_name("other").await?].into(),
            ),
        ])))
    }
}

fn entry(key: &str) -> Entry {
    Entry { key: key.to_owned(), value: b"{}".to_vec(), seal_wrap: false }
}

async fn storage(request: Request) -> Answer {
    let storage = &request.storage;
    let Some((verb, rest)) = request.path.split_once('/') else { return refusal(&request.path) };
    match verb {
        "put" => storage.put(entry(rest)).await?,
        "delete" => storage.delete(rest).await?,
        "get" => {
            let found = storage.get(rest).await?;
            return Ok(found.map(|entry| Response::of([("key", entry.key.into())])));
        }
        "big-put" => {
            storage.put(Entry { value: vec![7; 9 << 20], ..entry(rest) }).await?;
            let size = storage.get(rest).await?.map(|entry| entry.value.len());
            return Ok(Some(Response::of([("size", size.into())])));
        }
        "list" => {
            let keys = storage.list(rest).await?;
            return Ok(Some(Response::of([("keys", keys.into())])));
        }
        "page" => {
            let (after, limit) = rest.split_once(':').unwrap();
            let keys = storage.list_page("roles/", after, limit.parse().unwrap()).await?;
            return Ok(Some(Response::of([("keys", keys.into())])));
        }
        verb => return refusal(verb),
    }
    Ok(None)
}

fn refusal(path: &str) -> Answer {
    Err(match path {
        "bad" => Error::bad_request("ttl must be at most max_ttl").with_detail("a detail"),
        "internal" => Error::internal("OpenAI is down").with_detail("request id req_1"),
        "limited" => Error::status(503, "OpenAI is limiting"),
        "nothing" => return Ok(None),
        _ => Error::unsupported_path(),
    })
}
