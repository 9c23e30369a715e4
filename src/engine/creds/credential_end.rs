//! The end of a credential when Vault revokes its lease.
//!
//! *Guarantees:* in strict mode a revocation succeeds only when the key is dead: deleted at OpenAI, or expired there. In
//! queue mode a revocation succeeds when the credential's record is among the early revocations. Every credential that
//! cannot be ended at once is in the ledger, and the tick ends the credential (`ledger_worker.rs`), whether or not Vault
//! retries. A record is deleted only after OpenAI has ended the credential; a record that moves is written at its new
//! place first. A revocation may be repeated.
//!
//! *Waiting times.* Vault has some 200 workers for the leases of all its mounts. Vault tries each lease 6 times, after
//! waits of 20 s, 40 s and so on (give or take a half). Then Vault marks the lease irrevocable. So a worker must be
//! free soon, and a lease must not use up its tries while its key lives:
//! - A revocation of a live key waits at most [`MAX_WAIT`] for its turn at OpenAI. If the turn would come later, the
//!   revocation fails at once. 2 calls a second and a wait of 20 s occupy 40 workers, and OpenAI is never idle.
//! - A revocation of a dead key does not wait. It succeeds, and the ledger's worker deletes the account later.
//!
//! The fifth try comes at least 150 s after the first one, the sixth and last at least 310 s. A key expires at most
//! `key_expiry_margin` (60 s) after its lease. So every expired lease is revoked by its fifth try, even without OpenAI.
//! A write of `config` warns of a margin above
//! [`LONGEST_SAFE_MARGIN`](crate::engine::config::configuration::LONGEST_SAFE_MARGIN), which is not safe any more.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::config::configuration::{ONLY, RevocationMode};
use crate::engine::creds::ledger::{Credential, Entry, LEDGER};
use crate::engine::creds::{ledger, ledger_worker};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::LeaseCall;
use crate::logical::{self, Storage, StorageError};

/// Maximum wait of a revocation of a live key for its turn at OpenAI.
pub(in crate::engine) const MAX_WAIT: Duration = Duration::from_secs(20);

/// Revokes a lease for Vault.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let credential: Credential = call.internal()?;
    revoke_credential(&engine, &call.request.storage, &credential).await.map_err(for_lease)
}

/// Ends a credential, or returns why that is not possible now.
pub(in crate::engine) async fn revoke_credential(
    engine: &Arc<Engine>,
    storage: &Arc<dyn Storage>,
    credential: &Credential,
) -> Result<(), Error> {
    let is_dead = ledger_worker::is_dead(engine, credential);
    let queues = mode(engine, &**storage).await? == RevocationMode::Queue;
    // Vault may delete the storage of a tainted mount next, so nothing may be postponed.
    let is_last_chance = (is_dead || queues) && engine.system.tainted().await?;
    if queues && !is_last_chance {
        queue(engine, &**storage, credential, None).await?;
        ledger_worker::begin(engine, storage);
        return Ok(());
    }
    let max_wait = if is_dead && !is_last_chance { Duration::ZERO } else { MAX_WAIT };
    match ledger_worker::end(engine, &**storage, credential, max_wait).await {
        Ok(()) => {
            failpoint!("revoke.ended");
            // A record that stays costs the tick one call, and the tick counts the end.
            if let Ok(true) = forget(&**storage, credential).await {
                ledger_worker::count_end(engine, credential);
            }
            failpoint!("revoke.forgotten");
            Ok(())
        }
        // The key is dead, so the lease may end, and the worker deletes the account later. At the last chance Vault
        // retries.
        Err(error) if is_dead && !(is_last_chance && is_transient(&error)) => Ok(()),
        Err(error) => {
            // After its end a credential is due without a move.
            if credential.ends > engine.certain_time() {
                // If this fails as well, only Vault's next try remains. The caller gets the first error.
                let _ = queue(engine, &**storage, credential, Some(&error)).await;
            }
            Err(error)
        }
    }
}

/// True if a revocation succeeds before the key is dead. False on a tainted mount, whose storage Vault may
/// delete next.
pub(in crate::engine) async fn queues_revocations(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<bool, Error> {
    Ok(mode(engine, storage).await? == RevocationMode::Queue && !engine.system.tainted().await?)
}

async fn mode(engine: &Engine, storage: &dyn Storage) -> Result<RevocationMode, Error> {
    let config = engine.config.stored.get(storage, ONLY).await?;
    Ok(config.map(|config| config.revocation_mode).unwrap_or_default())
}

/// Moves the ledger record to the place of early revocations, where the worker finds the record before all others.
async fn queue(
    engine: &Engine,
    storage: &dyn Storage,
    credential: &Credential,
    error: Option<&Error>,
) -> Result<(), Error> {
    let place = ledger::early_place(&credential.name);
    if !LEDGER.contains(storage, &place).await? {
        let mut entry = Entry { revoked_at: Some(engine.now()), ..Entry::new(credential.clone()) };
        if let Some(error) = error {
            entry.failed(error, engine.now());
        }
        LEDGER.put(storage, &place, &entry).await?;
    }
    Ok(LEDGER.delete(storage, &credential.place()).await?)
}

/// Deletes the ledger record of a credential that OpenAI has ended, at both places. Returns false if there was none: an
/// earlier revocation deleted the record.
pub(super) async fn forget(storage: &dyn Storage, credential: &Credential) -> Result<bool, StorageError> {
    let (mut was_there, mut outcome) = (false, Ok(()));
    for place in [ledger::early_place(&credential.name), credential.place()] {
        if LEDGER.contains(storage, &place).await.unwrap_or(true) {
            was_there = true;
            outcome = outcome.and(LEDGER.delete(storage, &place).await);
        }
    }
    outcome.map(|()| was_there)
}

/// The error as Vault gets it. Vault logs the message and retries, except after an unsupported path or operation
/// (PROTOCOL 8.8), which none of these errors is.
pub(in crate::engine) fn for_lease(error: Error) -> logical::Error {
    let sentence = error.to_string();
    match error {
        Error::Revocation(error) if error.is_limited() => logical::Error::status(429, sentence),
        Error::Revocation(error) if error.is_transient() => logical::Error::status(503, sentence),
        Error::Storage(error) => error.into(),
        _ => logical::Error::internal(sentence),
    }
}

/// True if a retry may succeed.
pub(in crate::engine) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Revocation(error) if error.is_transient())
}
