//! OpenAI secrets engine for HashiCorp Vault and OpenBao: an external plugin with its own implementation of the
//! protocol.
//!
//! # The map
//! Six modules, each of which could become a crate. An arrow means "may use". A test enforces the arrows.
//!
//! ```text
//! main      -> engine, wire, goplugin
//! wire      -> goplugin, logical          Vault's backend protocol in protobuf, to and from `logical`
//! engine    -> framework, logical, openai the secrets engine, in rooms; `engine/mod.rs` has their map
//! framework -> logical                    paths, fields, leases, the write-ahead log
//! goplugin  -> (tonic, rustls)            HashiCorp's go-plugin, serving side
//! openai    -> (reqwest, serde)           a client of OpenAI's Admin API, and its rate limiter
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
//!    (`engine/creds/windows/`). If no window is open, the window's write-ahead entry is stored first. The entry holds
//!    the place at OpenAI where credentials are created, and a random id.
//! 4. `openai` waits for the call's turn, sends the call, and reads the response within its limits. The name of a
//!    credential ends in the minute of the credential's end, the window's id and the mount's tag.
//! 5. `engine/creds/ledger.rs` stores a record of the credential under the minute of its end. The request leaves the
//!    window, and Vault gets the key and the lease. If the caller has hung up meanwhile, `framework` ends the lease at
//!    once.
//!
//! If the plugin or the server dies, the moment decides. The next process is the restarted plugin, or the plugin on the
//! new leader.
//! - *Before step 4:* at most an unused write-ahead entry is stored, and nothing exists at OpenAI. The next process finds
//!   the entry, looks for its credentials twice, and deletes the entry.
//! - *In step 4, or before the record of step 5:* OpenAI may have an account or a key that the ledger does not have.
//!   The next process finds the entry, and lists the project 3 and 8 minutes after its start. It ends each credential with
//!   the window's id that is not in the ledger. A key that was ever used is somebody's: its credential gets a ledger
//!   record and lives until its own end.
//! - *After the record of step 5:* perhaps nobody has the key, but a caller may have it. The credential lives until its
//!   own end. Then the tick removes the credential, as every credential whose lease was lost.
//!
//! If the process lives and a call fails or its response is lost, the request undoes its own work. A name whose outcome
//! is unknown stays with the window, and the tick of the same process looks the name up 3 minutes later.
//!
//! # The flow of the tick
//! Vault calls the tick once a minute. `framework` runs the periodic work of `engine/mod.rs`. Among others,
//! `engine/creds/windows/` looks up names with an unknown outcome and deletes the entries of finished windows.
//! `engine/creds/ledger_worker.rs` removes credentials that have ended. `engine/accounts/worker.rs` reconciles static
//! roles, library sets, loans and the admin key. Then `framework` passes each write-ahead entry to the engine, which
//! undoes work without an owner.
//!
//! The engine finds due records by their minute, never by listing all records, and reads each record again under its
//! lock before it acts. Storage decides: a run may be interrupted anywhere and repeated.

pub mod engine;
pub mod framework;
pub mod goplugin;
pub mod logical;
pub mod openai;
pub mod wire;
