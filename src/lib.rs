//! OpenAI secrets engine for HashiCorp Vault and OpenBao: an external plugin with its own implementation of the
//! protocol.
//!
//! # The map
//! Seven modules, each of which could become a crate. An arrow means "may use". A test enforces the arrows.
//!
//! ```text
//! main      -> engine, wire, goplugin
//! wire      -> goplugin, logical          Vault's backend protocol in protobuf, to and from `logical`
//! engine    -> framework, logical, openai the secrets engine; `engine/mod.rs` has the map of its folders
//! framework -> logical                    paths, fields, leases, the write-ahead log
//! goplugin  -> tls                        HashiCorp's go-plugin, serving side
//! openai    -> tls                        a client of OpenAI's Admin API, and its rate limiter
//! tls       -> (rustls, ring)             the cryptography of both
//! logical   -> (serde)                    Vault's concepts: requests, responses, storage
//! ```
//!
//! `openai` uses no terms of Vault (lease, mount). `engine` does not use gRPC. Protobuf types stay inside `wire` and
//! `goplugin`.
//!
//! The files of a module have no cyclic dependencies, either. Comments cite facts about the servers as `PROTOCOL` with a
//! number. `docs/protocol.md` and `docs/protocol-sdk.md` list the facts by number.
//!
//! # The flow of `vault read openai/creds/app`
//! 1. `goplugin` accepts only the peer with the host's certificate. `wire` finds the mount, converts the request to a
//!    [`logical::Request`], and runs the request in its own task.
//! 2. `framework` selects the path `creds/:name` and validates the fields.
//! 3. `engine/creds/path_creds.rs` reads role, project and configuration, and joins a creation window
//!    (`engine/creds/windows/`): creations of some seconds that share one write-ahead entry. If no window is open, the
//!    entry of a new one is stored first. The entry holds the place at OpenAI where credentials are created, and a random
//!    id. The last parts of a credential's name are the minute of its end, the window's id and the mount's tag.
//! 4. `openai` waits for the call's turn, sends the call, and reads the response within its limits.
//! 5. `engine/creds/ledger.rs` stores a record of the credential under the minute of its end. The request leaves the
//!    window, and Vault gets the key and the lease. If the caller has hung up meanwhile, `framework` ends the lease at
//!    once.
//!
//! If the plugin or the server dies, the last completed step decides what the next process must end. The head of
//! `engine/creds/path_creds.rs` says what exists after each step, and who ends it. It also says how a request that fails
//! undoes its own work.
//!
//! # The flow of the tick
//! Vault calls the tick once a minute. `framework` runs the periodic work of `engine/mod.rs`. Among others,
//! `engine/creds/windows/` looks up names with an unknown outcome and deletes the entries of finished windows.
//! `engine/creds/ledger_worker.rs` removes credentials that have ended. `engine/accounts/worker.rs` reconciles static
//! roles, library sets, loans, the admin key, federation and federated roles. Then `framework` passes each write-ahead
//! entry to the engine, which undoes work without an owner.
//!
//! The engine finds due records by their minute, and reads each record again under its lock before it acts. It lists all
//! owners only in the first and the last tick of a process, after the clock went back, and when the configuration names
//! another organization. Storage decides: a run may be interrupted anywhere and repeated.

pub mod engine;
pub mod framework;
pub mod goplugin;
pub mod logical;
pub mod openai;
mod tls;
pub mod wire;
