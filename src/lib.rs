//! OpenAI secrets engine for HashiCorp Vault and OpenBao: an external plugin, written from the protocol up.
//!
//! # The map
//! Six modules, each of which could leave as a crate; an arrow is "may use", and a test holds the code to it.
//!
//! ```text
//! main      -> engine, wire, goplugin
//! wire      -> goplugin, logical          Vault's backend protocol in protobuf, to and from `logical`
//! engine    -> framework, logical, openai the engine: one file or folder per noun of the README
//! framework -> logical                    paths, fields, leases, the write-ahead log
//! goplugin  -> (tonic, rustls)            HashiCorp's go-plugin, serving side
//! openai    -> (reqwest, serde)           a client of OpenAI's Admin API, and the pace it allows
//! logical   -> (serde)                    Vault's vocabulary: requests, responses, storage
//! ```
//!
//! `openai` never says Vault, lease or mount; `engine` never says gRPC; protobuf types stay inside `wire` and
//! `goplugin`.
//!
//! Within a module files use one another one way, too: no file leads back to itself. Comments cite what the servers are
//! taken to do as `PROTOCOL` with a number, under which `docs/protocol.md` tells it.
//!
//! # How `vault read openai/creds/app` flows
//! 1. `goplugin` accepts the one peer whose certificate Vault announced; `wire` finds the mount, makes the request a
//!    [`logical::Request`] and runs it in a task of its own.
//! 2. `framework` picks the path `creds/:name` and checks what was sent.
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
