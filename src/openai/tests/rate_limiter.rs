//! The rate limiter and the queue under simulated limits, in simulated time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::call::Kind;
use super::super::{Call, Error, Urgency};
use super::simulation::{Limit, Simulation, Tally};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_millis(5);

fn twenty_a_second() -> [Limit; 3] {
    [
        Limit::Bucket { per_second: 20.0, burst: 20.0 },
        Limit::Window { calls: 20, span: SECOND },
        Limit::Strict { calls: 20, span: SECOND },
    ]
}

/// Result of 16 clients, and their 429 responses per thousand calls.
async fn crowd(simulation: &Simulation) -> (Tally, usize) {
    let start = Instant::now();
    let tally = simulation.clients(16, Urgency::Issue, MINUTE, 15 * SECOND).await;
    let all = simulation.count(start, |_| true);
    let limited = simulation.count(start, |status| status == 429);
    (tally, limited * 1000 / all)
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_served_as_fast_as_twenty_a_second_allow() {
    for limit in twenty_a_second() {
        for latency in [1, 5, 14, 50] {
            let quiet = Simulation::new(limit, Duration::from_millis(latency));
            let telling = Simulation::new(limit, Duration::from_millis(latency)).with_retry_after();
            for simulation in [quiet, telling] {
                let (tally, limited) = crowd(&simulation).await;
                assert!(tally.served >= 200 && tally.refused == 0, "{limit:?}, {latency} ms: {tally:?}");
                assert!(limited <= 50, "{limit:?}, {latency} ms: {limited}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_any_burst_is_found_too() {
    let simulation = Simulation::new(Limit::Bucket { per_second: 20.0, burst: 1.0 }, QUICK);
    let (tally, limited) = crowd(&simulation).await;
    assert!(tally.served >= 140 && tally.refused == 0 && limited <= 50, "{tally:?} {limited}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_back_where_nothing_is_limited() {
    let simulation = Simulation::new(Limit::None, Duration::from_millis(100));
    let tally = simulation.clients(64, Urgency::Issue, MINUTE, 10 * SECOND).await;
    // 64 concurrent calls of 100 ms make 640 per second; the ramp-up costs about half a second.
    assert!(tally.served >= 6000 && tally.refused == 0, "{tally:?}");
    let start = Instant::now();
    let tally = simulation.clients(64, Urgency::Issue, MINUTE, 10 * SECOND).await;
    assert!(tally.served >= 6400 - 64, "{tally:?} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_few_calls_a_minute_are_learned_without_hammering() {
    let limit = Limit::Strict { calls: 10, span: MINUTE };
    let simulation = Simulation::new(limit, QUICK);
    let start = Instant::now();
    simulation.clients(4, Urgency::Revocation, 10 * MINUTE, 10 * MINUTE).await;
    let (all, served) = (simulation.count(start, |_| true), simulation.count(start, |status| status == 200));
    assert!(served >= 60 && all <= served * 2, "{served} of {all}");
}

#[tokio::test(start_paused = true)]
async fn revocations_go_first_and_issues_keep_a_share() {
    let simulation = Simulation::new(Limit::Bucket { per_second: 2.0, burst: 2.0 }, QUICK);
    let (revoked, issued) = tokio::join!(
        simulation.clients(32, Urgency::Revocation, 10 * MINUTE, 2 * MINUTE),
        simulation.clients(8, Urgency::Issue, 10 * MINUTE, 2 * MINUTE),
    );
    assert_eq!((revoked.refused, issued.refused), (0, 0));
    assert!(revoked.served >= 2 * issued.served, "{revoked:?} {issued:?}");
    assert!(issued.served >= 30 && revoked.served >= 100, "{revoked:?} {issued:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_its_deadline_is_refused_unsent_with_the_wait_time() {
    let simulation = Simulation::capped(60);
    let call = |max_wait| simulation.call(Call::CreateServiceAccount, Urgency::Issue, max_wait);
    call(SECOND).await.unwrap();
    let error = call(SECOND / 2).await.unwrap_err();
    assert_eq!(error.to_string(), "OpenAI allows no more calls now: try again in 1 s");
    assert!(error.is_limited() && !error.is_unknown_outcome());
    assert_eq!(simulation.seen().len(), 1);
    call(2 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_pace_is_never_exceeded_in_any_minute() {
    let simulation = Simulation::capped(30);
    simulation.clients(8, Urgency::Issue, MINUTE, 3 * MINUTE).await;
    let seen = simulation.seen();
    assert!(seen.len() >= 85, "{}", seen.len());
    for window in seen.windows(31) {
        assert!(window[30].at - window[0].at >= 59 * SECOND + Duration::from_millis(990));
    }
}

#[tokio::test(start_paused = true)]
async fn probes_do_not_exceed_the_maximum_rate() {
    let simulation = Simulation::capped(6);
    simulation.fail(true);
    simulation.clients(8, Urgency::Check, MINUTE, 5 * MINUTE).await;
    for window in simulation.seen().windows(7) {
        assert!(window[6].at - window[0].at >= 59 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_recovers_when_the_limit_is_lifted() {
    for (limit, learned, within) in [
        (Limit::Bucket { per_second: 20.0, burst: 20.0 }, 15 * SECOND, MINUTE),
        (Limit::Bucket { per_second: 2.0, burst: 2.0 }, MINUTE, 2 * MINUTE),
        (Limit::Strict { calls: 10, span: MINUTE }, 5 * MINUTE, 12 * MINUTE),
    ] {
        let simulation = Simulation::new(limit, Duration::from_millis(100));
        simulation.clients(32, Urgency::Revocation, 60 * MINUTE, learned).await;
        simulation.set_limit(Limit::None);
        simulation.clients(32, Urgency::Revocation, 60 * MINUTE, within).await;
        let tally = simulation.clients(32, Urgency::Revocation, 60 * MINUTE, 5 * SECOND).await;
        assert!(tally.served >= 1400, "{limit:?}: {tally:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_refusal_out_of_the_blue_does_not_slow_a_crowd_for_long() {
    let simulation = Simulation::new(Limit::Strict { calls: 0, span: SECOND }, Duration::from_millis(100));
    let lone = simulation.call(Call::Project, Urgency::Check, MINUTE);
    let lifted = async {
        sleep(Duration::from_millis(200)).await;
        simulation.set_limit(Limit::None);
    };
    tokio::join!(lone, lifted).0.unwrap();
    simulation.clients(64, Urgency::Issue, MINUTE, 15 * SECOND).await;
    let tally = simulation.clients(64, Urgency::Issue, MINUTE, 5 * SECOND).await;
    assert!(tally.served >= 2800 && tally.refused == 0, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_gets_few_probes_and_every_call_succeeds_afterwards() {
    let simulation = Simulation::new(Limit::None, QUICK);
    simulation.fail(true);
    let start = Instant::now();
    let deletions = (0..200).map(|_| simulation.call(Call::DeleteKey, Urgency::Revocation, 20 * MINUTE));
    let recovery = async {
        sleep(10 * MINUTE).await;
        simulation.fail(false);
    };
    let (results, ()) = tokio::join!(futures_util::future::join_all(deletions), recovery);
    assert!(results.iter().all(Result::is_ok));
    assert!(simulation.count(start, |status| status == 500) <= 150);
    assert!(start.elapsed() <= 10 * MINUTE + 30 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_a_call_with_a_short_deadline_fails_unsent() {
    let simulation = Simulation::new(Limit::None, QUICK);
    simulation.fail(true);
    let _ = simulation.call(Call::DeleteKey, Urgency::Revocation, 10 * SECOND).await.unwrap_err();
    let before = simulation.seen().len();
    let error = simulation.call(Call::CreateKey, Urgency::Issue, SECOND / 10).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && !error.is_unknown_outcome(), "{error}");
    assert_eq!(simulation.seen().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_right_after_a_failed_probe_finds_out_that_the_outage_is_over() {
    let simulation = Simulation::new(Limit::None, QUICK);
    simulation.fail(true);
    let after_a_probe = async {
        sleep(MINUTE).await;
        let probes = simulation.seen().len();
        while simulation.seen().len() == probes {
            sleep(QUICK).await;
        }
        sleep(QUICK).await;
    };
    tokio::select! {
        _ = simulation.call(Call::DeleteKey, Urgency::Revocation, 20 * MINUTE) => panic!("OpenAI fails"),
        () = after_a_probe => {}
    }
    simulation.fail(false);
    simulation.call(Call::CreateKey, Urgency::Issue, MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_fail_at_once_when_the_limit_outlasts_their_deadline() {
    let limit = Limit::Window { calls: 1, span: 10 * MINUTE };
    let simulation = Simulation::new(limit, QUICK).with_retry_after();
    let start = Instant::now();
    let calls = (0..50).map(|_| simulation.call(Call::CreateKey, Urgency::Issue, SECOND * 30));
    let results = futures_util::future::join_all(calls).await;
    assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    let throttled = |result: &&Result<(), Error>| matches!(result, Err(Error::Throttled { .. }));
    assert_eq!(results.iter().filter(throttled).count(), 49);
    assert!(simulation.seen().len() <= 10, "the rest was not sent");
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_failed_is_not_repeated_but_a_limited_one_is() {
    let simulation = Simulation::new(Limit::Window { calls: 1, span: SECOND }, QUICK);
    let call = || simulation.call(Call::CreateKey, Urgency::Issue, MINUTE);
    let (first, second) = tokio::join!(call(), call());
    assert!(first.is_ok() && second.is_ok());
    simulation.fail(true);
    let start = Instant::now();
    let error = call().await.unwrap_err();
    assert!(error.is_unknown_outcome());
    assert_eq!(simulation.count(start, |_| true), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiting_call_delays_no_other_call() {
    let simulation = Simulation::capped(60);
    let call = || simulation.call(Call::CreateKey, Urgency::Issue, MINUTE);
    call().await.unwrap();
    let start = Instant::now();
    let gone = tokio::time::timeout(SECOND / 2, call());
    let (gone, stayed) = tokio::join!(gone, call());
    assert!(gone.is_err() && stayed.is_ok());
    assert!(start.elapsed() <= SECOND + SECOND / 10, "{:?}", start.elapsed());
}

/// Makes sequential calls with this delay between them; answers the number of refusals.
async fn refused(simulation: &Simulation, calls: usize, apart: Duration) -> usize {
    let mut refused = 0;
    for _ in 0..calls {
        let called = simulation.call(Call::CreateServiceAccount, Urgency::Issue, 45 * SECOND).await;
        refused += usize::from(called.is_err());
        sleep(apart).await;
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_quiet_mount_is_served_whatever_stray_refusals_it_met() {
    for seed in 0..6 {
        for apart in [SECOND / 2, 10 * SECOND, MINUTE, 4 * MINUTE, 10 * MINUTE, 60 * MINUTE] {
            let simulation = Simulation::new(Limit::Random { percent: 5 }, QUICK).seeded(seed);
            assert_eq!(refused(&simulation, 720, apart).await, 0, "{seed}: a call every {apart:?}");
            simulation.set_limit(Limit::None);
            assert_eq!(refused(&simulation, 288, 10 * MINUTE).await, 0, "{seed}: afterwards");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_full_pace_is_back_10_minutes_after_the_last_stray_refusal_however_busy_the_mount_is() {
    for seed in 0..3 {
        for clients in [0, 1, 4] {
            let simulation =
                Simulation::new(Limit::Random { percent: 5 }, Duration::from_millis(100)).seeded(seed);
            simulation.clients(16, Urgency::Issue, MINUTE, 5 * MINUTE).await;
            simulation.set_limit(Limit::None);
            simulation.clients(clients, Urgency::Issue, MINUTE, 10 * MINUTE).await;
            sleep(if clients == 0 { 10 * MINUTE } else { Duration::ZERO }).await;
            let tally = simulation.clients(64, Urgency::Issue, MINUTE, 5 * SECOND).await;
            // 64 concurrent calls of 100 ms make 640 per second, minus the ramp-up.
            assert!(tally.served >= 2800 && tally.refused == 0, "{seed}, {clients} clients: {tally:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_nearly_nothing_is_lifted_for_those_who_wait_as_long_as_a_request_may() {
    let simulation = Simulation::new(Limit::Window { calls: 1, span: 2 * MINUTE }, QUICK);
    simulation.clients(4, Urgency::Issue, 45 * SECOND, 60 * MINUTE).await;
    simulation.set_limit(Limit::None);
    sleep(5 * MINUTE).await;
    assert_eq!(refused(&simulation, 20, SECOND).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_while_openai_fails_is_told_within_10_seconds() {
    let simulation = Simulation::new(Limit::None, QUICK);
    simulation.fail(true);
    for call in [Call::CreateKey, Call::ListKeys, Call::Project] {
        for urgency in [Urgency::Issue, Urgency::Check] {
            let start = Instant::now();
            let calls = (0..50).map(|_| simulation.call(call, urgency, 45 * SECOND));
            let results = futures_util::future::join_all(calls).await;
            assert!(results.iter().all(Result::is_err));
            assert!(start.elapsed() <= 10 * SECOND, "{call} {urgency:?}: {:?}", start.elapsed());
        }
    }
    // Revocations wait longer and succeed in the end.
    let call = simulation.call(Call::DeleteKey, Urgency::Revocation, 45 * SECOND);
    let recovery = async {
        sleep(30 * SECOND).await;
        simulation.fail(false);
    };
    tokio::join!(call, recovery).0.unwrap();
}

/// Outcome of 10 minutes in which 16 clients each create an account and delete it, again and again.
#[derive(Debug)]
struct Outcome {
    /// Credentials that were made and ended.
    credentials: usize,
    /// Calls that a limit refused, in permille of all creations and deletions.
    refused: usize,
    /// The longest time from the end of a credential to its deletion.
    longest_end: Duration,
}

/// Runs the 16 clients for 10 minutes.
async fn credentials(simulation: &Simulation) -> Outcome {
    let end = Instant::now() + 10 * MINUTE;
    let client = async || {
        let (mut credentials, mut longest_end) = (0, Duration::ZERO);
        while Instant::now() < end {
            if simulation.call(Call::CreateServiceAccount, Urgency::Issue, 45 * SECOND).await.is_err() {
                sleep(SECOND).await;
                continue;
            }
            let ended = Instant::now();
            while simulation.call(Call::DeleteServiceAccount, Urgency::Revocation, MINUTE).await.is_err() {
                sleep(SECOND).await;
            }
            longest_end = longest_end.max(ended.elapsed());
            credentials += usize::from(Instant::now() <= end);
        }
        (credentials, longest_end)
    };
    let clients = futures_util::future::join_all((0..16).map(|_| client())).await;
    let (created, refused) = simulation.of_kind(Kind::CreateAccount);
    let (deleted, also_refused) = simulation.of_kind(Kind::DeleteAccount);
    Outcome {
        credentials: clients.iter().map(|(credentials, _)| credentials).sum(),
        refused: (refused + also_refused) * 1000 / (created + deleted),
        longest_end: clients.iter().map(|(_, longest)| *longest).max().unwrap_or_default(),
    }
}

/// A limit of 7 calls a minute, as it was seen at OpenAI, in both forms that fit what was seen.
fn seven_a_minute() -> [Limit; 2] {
    [Limit::Sliding { calls: 7, span: MINUTE }, Limit::Window { calls: 7, span: MINUTE }]
}

#[tokio::test(start_paused = true)]
async fn sixteen_clients_get_nearly_all_of_seven_credentials_a_minute_with_few_refusals() {
    for limit in seven_a_minute() {
        for nothing_else in [false, true] {
            let simulation =
                Simulation::new(Limit::Sliding { calls: 30, span: MINUTE }, QUICK).with_retry_after();
            simulation.limit_kind(Kind::CreateAccount, limit);
            simulation.limit_kind(Kind::DeleteAccount, limit);
            let outcome = if nothing_else {
                // Lists and costs are limited to nothing.
                for kind in [Kind::List, Kind::Costs] {
                    simulation.limit_kind(kind, Limit::Strict { calls: 0, span: MINUTE });
                }
                let others = async {
                    let list = simulation.call(Call::ListKeys, Urgency::Check, 10 * MINUTE);
                    let costs = simulation.call(Call::Costs, Urgency::Check, 10 * MINUTE);
                    tokio::join!(list, costs)
                };
                tokio::join!(credentials(&simulation), others).0
            } else {
                credentials(&simulation).await
            };
            assert!(outcome.credentials >= 68, "{limit:?}: {outcome:?}");
            assert!(outcome.refused <= 40, "{limit:?}: {outcome:?}");
            assert!(outcome.longest_end <= MINUTE + SECOND, "{limit:?}: {outcome:?}");
        }
    }
}

/// Forms beyond what was seen: a window that counts refused calls too, and refusals that name no time. The bounds are what
/// was measured, rounded; they show that no form stops the mount.
#[tokio::test(start_paused = true)]
async fn limits_of_other_forms_leave_most_of_the_seven_credentials() {
    let counting_refusals = Limit::Strict { calls: 7, span: MINUTE };
    let [sliding, window] = seven_a_minute();
    for (limit, names_time, credentials_at_least, refused_at_most) in [
        (sliding, false, 62, 65),
        (window, false, 66, 60),
        (counting_refusals, true, 46, 62),
        (counting_refusals, false, 46, 230),
    ] {
        let simulation = Simulation::new(Limit::Sliding { calls: 30, span: MINUTE }, QUICK);
        let simulation = if names_time { simulation.with_retry_after() } else { simulation };
        simulation.limit_kind(Kind::CreateAccount, limit);
        simulation.limit_kind(Kind::DeleteAccount, limit);
        let outcome = credentials(&simulation).await;
        let story = format!("{limit:?}, names a time: {names_time}: {outcome:?}");
        assert!(outcome.credentials >= credentials_at_least, "{story}");
        assert!(outcome.refused <= refused_at_most, "{story}");
        assert!(outcome.longest_end <= MINUTE + SECOND, "{story}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_without_calls_a_burst_is_possible_again() {
    let simulation = Simulation::new(Limit::None, QUICK).with_retry_after();
    simulation.limit_kind(Kind::CreateAccount, Limit::Sliding { calls: 7, span: MINUTE });
    simulation.clients(16, Urgency::Issue, 45 * SECOND, 3 * MINUTE).await;
    sleep(MINUTE + SECOND).await;
    let start = Instant::now();
    let calls = (0..7).map(|_| simulation.call(Call::CreateServiceAccount, Urgency::Issue, SECOND));
    let results = futures_util::future::join_all(calls).await;
    assert!(results.iter().all(Result::is_ok) && start.elapsed() <= SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn under_a_ceiling_of_all_kinds_revocations_go_first_and_issues_keep_a_share() {
    let simulation = Simulation::capped(60);
    let calls = |call, urgency, count| {
        let simulation = &simulation;
        (0..count).map(move |_| simulation.call(call, urgency, 10 * MINUTE))
    };
    let issues = futures_util::future::join_all(calls(Call::CreateServiceAccount, Urgency::Issue, 60));
    let revocations = futures_util::future::join_all(calls(Call::DeleteKey, Urgency::Revocation, 60));
    tokio::join!(issues, revocations);
    let first: Vec<Kind> = simulation.seen().iter().take(41).map(|seen| seen.kind).collect();
    let deletions = first.iter().filter(|&&kind| kind == Kind::DeleteKey).count();
    assert!((29..=32).contains(&deletions), "{deletions} of 41");
}
