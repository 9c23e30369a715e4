//! What was recorded and never answered with goes by the next sweep; what may have been answered with stays.

use openai_secrets::engine::failpoint::Trap;

use super::steps::Step;
use super::world::{Log, World};

/// The engine ends here in the middle of a read; what is left after the next sweep.
async fn swept_after(point: &str, log: Log) -> (World, usize) {
    let mut world = World::begin(log).await;
    assert!(Step::Read("plain").take(&mut world, None).await);
    assert!(!Step::Read("plain").take(&mut world, Some(&Trap::at(point, 0))).await);
    world.restart();
    world.tick(None).await.expect("it goes on").expect("the tick succeeds");
    let left = world.openai.state().live_keys().count() - 1;
    (world, left)
}

#[tokio::test]
async fn what_was_recorded_and_not_answered_with_is_ended_by_the_sweep() {
    for (point, log) in
        [("creds.recorded", Log::Kept), ("creds.recorded", Log::None), ("creds.promised", Log::Kept)]
    {
        let (mut world, left) = swept_after(point, log).await;
        assert_eq!(left, 0, "{point} {log:?}");
        world.settles().await;
    }
}

#[tokio::test]
async fn what_may_have_been_answered_with_stays_until_its_own_end() {
    for (point, log) in [("creds.noted", Log::Kept), ("creds.promised", Log::None)] {
        let (mut world, left) = swept_after(point, log).await;
        assert_eq!(left, 1, "{point} {log:?}");
        world.settles().await;
        assert_eq!(world.openai.state().live_keys().count(), 1, "{point} {log:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_leave_is_ended_by_the_sweep_and_one_that_does_is_not() {
    for restarts in [false, true] {
        let mut world = World::begin(Log::Kept).await;
        assert!(Step::Read("plain").take(&mut world, None).await);
        world.sends = false;
        assert!(Step::Read("plain").take(&mut world, None).await);
        let unsent = world.leases.pop().expect("it came with a lease");
        if restarts {
            world.restart();
        }
        world.tick(None).await.expect("it goes on").expect("the tick succeeds");
        let state = world.openai.state();
        let alive: Vec<_> = state.live_keys().map(|key| key.id.as_str()).collect();
        assert!(!alive.contains(&unsent["api_key_id"].as_str().expect("it is text")), "{restarts}");
        world.sends = true;
        world.settles().await;
    }
}

#[tokio::test]
async fn what_one_mount_answered_with_is_no_matter_of_the_other_mount_in_the_process() {
    let mut here = World::begin(Log::Kept).await;
    let mut there = here.beside().await;
    for world in [&mut here, &mut there] {
        assert!(Step::Read("plain").take(world, None).await);
    }
    for world in [&mut here, &mut there] {
        world.tick(None).await.expect("it goes on").expect("the tick succeeds");
        world.everything_has_an_owner();
        world.settles().await;
    }
}
