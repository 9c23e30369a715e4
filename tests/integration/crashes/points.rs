//! Each point by itself, in one and the same story.

use openai_secrets::engine::failpoint::Trap;

use super::points;
use super::steps::STORY;
use super::world::{Log, World};

/// How often each point is passed before it is the end.
const PASSES: u32 = 2;

#[tokio::test]
async fn the_engine_may_end_at_every_point() {
    for point in points() {
        let mut ended = 0;
        for (passes, log) in (0..PASSES).flat_map(|passes| [(passes, Log::None), (passes, Log::Kept)]) {
            // Where it makes no difference, once is enough.
            if log == Log::None || point.starts_with("creds.") || point.starts_with("sweep.") {
                ended += u32::from(end_at(&point, passes, log).await);
            }
        }
        assert!(ended > 0, "no step comes by {point}");
    }
}

#[tokio::test]
async fn the_story_without_an_end_loses_nothing() {
    for log in [Log::Kept, Log::None] {
        let mut world = World::begin(log).await;
        for step in STORY {
            assert!(step.take(&mut world, None).await);
            world.nothing_is_lost();
        }
        world.settles().await;
    }
}

/// The story with an end at this point; whether it came by it.
async fn end_at(point: &str, passes: u32, log: Log) -> bool {
    let trap = Trap::at(point, passes);
    let mut world = World::begin(log).await;
    for step in STORY {
        let armed = trap.caught().is_none().then_some(&trap);
        if !step.take(&mut world, armed).await {
            println!("{step:?} ended at {point}");
            world.nothing_is_lost();
            world.restart();
        }
    }
    world.settles().await;
    trap.caught().is_some()
}
