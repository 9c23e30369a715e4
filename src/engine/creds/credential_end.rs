//! The end of a credential, when Vault asks for it.
//!
//! *Guarantees:* in strict mode a revocation answers success only when the key is dead: deleted at OpenAI, or expired
//! there by itself. What cannot be ended at once stays in, or gets into, the ledger, from where the tick ends it
//! (`removal`), whether or not Vault asks again. In queue mode it answers when that is on record. Nothing is taken from
//! the ledger before OpenAI says that it is gone; a record that moves is written at its new place first. Revoking twice
//! is fine.
//!
//! *How long a revocation waits.* Vault has some 200 workers for the leases of all its mounts, tries each lease 6 times
//! (again after 20 s, doubled each time, give or take a half) and then calls it irrevocable. So a worker must come free soon, and a
//! lease must not use up its tries while its key lives:
//! - What lives waits at most [`PATIENCE`]; if its turn would come later, it is refused without waiting, at once. At 2
//!   calls a second that is 40 workers at a time, and OpenAI is never idle.
//! - What is dead is never waited for: success, and its account is left to the ledger.
//!
//! The fifth try comes 150 s after the first at the earliest, the sixth and last 310 s. A key dies `key_expiry_margin`
//! (60 s) after its lease at the latest, so every lease that runs out is revoked by its fifth try, however slow OpenAI
//! is, or absent. With a margin above [`LONGEST_SAFE_MARGIN`](crate::engine::config::configuration::LONGEST_SAFE_MARGIN) that is not sure any more: a write of `config` warns of it.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::config::configuration::{ONLY, RevocationMode};
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::{Entry, Handed, LEDGER};
use crate::engine::creds::removal;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::LeaseCall;
use crate::logical::{self, Storage};

/// As long as a revocation of something alive waits for its turn at OpenAI; see above.
pub(in crate::engine) const PATIENCE: Duration = Duration::from_secs(20);

/// Vault ends the lease.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let handed: Handed = call.internal()?;
    revoke_handed(&engine, &call.request.storage, &handed).await.map_err(for_lease)
}

/// Ends what was handed out, or says why it cannot be ended now.
pub(in crate::engine) async fn revoke_handed(
    engine: &Arc<Engine>,
    storage: &Arc<dyn Storage>,
    handed: &Handed,
) -> Result<(), Error> {
    let is_dead = removal::is_dead(engine, handed);
    let queues = engine.mode(&**storage).await? == RevocationMode::Queue;
    // On unmounting Vault wipes the mount's storage after this: what is put off now is lost.
    let is_last_chance = (is_dead || queues) && engine.system.tainted().await?;
    if queues && !is_last_chance {
        ask(engine, &**storage, handed, None).await?;
        removal::begin(engine, storage);
        return Ok(());
    }
    let patience = if is_dead && !is_last_chance { Duration::ZERO } else { PATIENCE };
    match removal::end(engine, &**storage, handed, patience).await {
        Ok(()) => {
            failpoint!("revoke.ended");
            forget(&**storage, handed).await;
            failpoint!("revoke.forgotten");
            Ok(())
        }
        Err(error) if is_dead && !(is_last_chance && may_pass(&error)) => Ok(()),
        Err(error) => {
            if handed.ends > engine.certain_time() {
                // Should that fail too, Vault's next try is all there is; the caller learns the first error.
                let _ = ask(engine, &**storage, handed, Some(&error)).await;
            }
            Err(error)
        }
    }
}

impl Engine {
    /// Whether a revocation answers before the key is dead. Not on unmounting, when Vault wipes the mount's storage.
    pub(in crate::engine) async fn queues_revocations(&self, storage: &dyn Storage) -> Result<bool, Error> {
        Ok(self.mode(storage).await? == RevocationMode::Queue && !self.system.tainted().await?)
    }

    async fn mode(&self, storage: &dyn Storage) -> Result<RevocationMode, Error> {
        let config = self.config.get(storage, ONLY).await?;
        Ok(config.map(|config| config.revocation_mode).unwrap_or_default())
    }
}

/// Puts on record that the credential is to be ended now and not at its time.
async fn ask(
    engine: &Engine,
    storage: &dyn Storage,
    handed: &Handed,
    error: Option<&Error>,
) -> Result<(), Error> {
    let place = ledger::asked_place(&handed.name);
    if !LEDGER.contains(storage, &place).await? {
        let mut entry = Entry { asked: Some(engine.now()), ..Entry::new(handed.clone()) };
        if let Some(error) = error {
            entry.failed(error, engine.now());
        }
        LEDGER.put(storage, &place, &entry).await?;
    }
    Ok(LEDGER.delete(storage, &handed.place()).await?)
}

/// It is gone at OpenAI. A record that stays costs the tick one call later, nothing more.
async fn forget(storage: &dyn Storage, handed: &Handed) {
    let asked = ledger::asked_place(&handed.name);
    if LEDGER.contains(storage, &asked).await.unwrap_or(true) {
        let _ = LEDGER.delete(storage, &asked).await;
    }
    let _ = LEDGER.delete(storage, &handed.place()).await;
}

/// Whoever revokes learns the sentence, whatever kind of error it is; of all kinds, only those that say that there is no
/// such path or operation make Vault give up at once (PROTOCOL 8.8), and none of ours does.
pub(in crate::engine) fn for_lease(error: Error) -> logical::Error {
    let sentence = error.to_string();
    match error {
        Error::Revocation(error) if error.is_limited() => logical::Error::status(429, sentence),
        Error::Revocation(error) if error.is_transient() => logical::Error::status(503, sentence),
        Error::Storage(error) => error.into(),
        _ => logical::Error::internal(sentence),
    }
}

/// Whether it may go better in a while.
pub(in crate::engine) fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Revocation(error) if error.is_transient())
}
