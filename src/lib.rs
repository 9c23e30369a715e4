//! OpenAI secrets engine for HashiCorp Vault and OpenBao: an external plugin with its own implementation of the protocol.
//!
//! # The map
//! Six modules, each of which could become a crate. An arrow means "may use". A test enforces the arrows.
//!
//! ```text
//! main      -> engine, wire, goplugin
//! wire      -> goplugin, logical          Vault's backend protocol in protobuf, to and from `logical`
//! engine    -> framework, logical, openai the engine: one room per noun of the API
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
//!    [`logical::Request`], and runs it in its own task.
//! 2. `framework` selects the path `creds/:name` and validates the fields.
//! 3. `engine::creds` reads role, project and configuration, and joins a creation window (`engine::windows`). If none
//!    is open, the window's write-ahead entry is stored first. It holds the place where credentials are made, and a
//!    random id.
//! 4. `openai` waits for the call's turn, sends it, and reads the answer within its limits. The name of a credential
//!    ends in the minute of its end, the window's id and the mount's tag.
//! 5. `engine::ledger` stores a record of the credential under the minute of its end. The request leaves the window,
//!    and Vault gets the key and the lease. If the caller has hung up meanwhile, `framework` ends the lease at once.
//!
//! A dying plugin or server leaves:
//! - before step 4: a write-ahead entry, and nothing at OpenAI.
//! - in step 4: an account or a key that the ledger does not have. The next process finds the entry, lists the project,
//!   and ends each name with the window's id that is not in the ledger, unless its key was ever used.
//! - in step 5, after the record is stored: a credential that perhaps nobody has. The credential stays until its own
//!   end. The tick then removes it, as it removes every credential whose lease was lost.
//!
//! # How the tick flows
//! Vault calls once a minute. `framework` runs the engine's periodic work, which deletes the entries of windows that
//! are over. Then `framework` passes each write-ahead entry to the engine, which undoes work without an owner. The
//! engine finds due records by their minute, never by listing all records, and reads each record again under its lock
//! before it acts. Storage decides; a run may be cut off and repeated.

pub mod engine;
pub mod framework;
pub mod goplugin;
pub mod logical;
pub mod openai;
pub mod wire;
