//! OpenAI secrets engine for HashiCorp Vault and OpenBao: an external plugin with its own implementation of the protocol.
//!
//! # The map
//! Six modules, each of which could become a crate. An arrow means "may use". A test enforces the arrows.
//!
//! ```text
//! main      -> engine, wire, goplugin
//! wire      -> goplugin, logical          Vault's backend protocol in protobuf, to and from `logical`
//! engine    -> framework, logical, openai the engine: one file or folder per noun of the README
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
//! number. `docs/protocol.md` lists the facts by number.
//!
//! # The flow of `vault read openai/creds/app`
//! 1. `goplugin` accepts only the peer with the host's certificate. `wire` finds the mount, converts the request to a
//!    [`logical::Request`], and runs it in its own task.
//! 2. `framework` selects the path `creds/:name` and validates the fields.
//! 3. `engine::creds` reads role, project and configuration; `engine::issuer` writes down what it is about to make,
//!    and for whom, before it asks OpenAI.
//! 4. `openai` waits for the call's turn, sends it, and reads the answer within its limits.
//! 5. `engine::ledger` records what was handed out by the minute of its end; Vault gets the key and the lease. If the
//!    caller has hung up meanwhile, `framework` ends the lease at once.
//! 6. As the answer leaves `goplugin`'s socket, `engine::answers` notes it; then the write-ahead entry goes.
//!
//! # How the tick flows
//! Vault calls once a minute. `framework` runs the engine's periodic work, then undoes what write-ahead entries
//! older than any request name and nobody owns. The engine finds what is due by its minute, never by listing all,
//! and re-reads each record under its lock before it acts. Storage decides; a run may be cut off and repeated.

pub mod engine;
pub mod framework;
pub mod goplugin;
pub mod logical;
pub mod openai;
pub mod wire;
