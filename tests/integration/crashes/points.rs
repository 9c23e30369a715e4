//! Each point by itself, in one and the same story.

use openai_secrets::engine::failpoint::Trap;

use super::points;
use super::steps::STORY;
use super::world::World;

/// How often each point is passed before it is the end.
const PASSES: u32 = 2;

#[tokio::test]
async fn the_engine_may_end_at_every_point() {
    for point in points() {
        let mut ended = 0;
        for passes in 0..PASSES {
            ended += u32::from(end_at(&point, passes).await);
        }
        assert!(ended > 0, "no step comes by {point}");
    }
}

#[tokio::test]
async fn the_story_without_an_end_loses_nothing() {
    let mut world = World::begin().await;
    for step in STORY {
        assert!(step.take(&mut world, None).await);
        world.nothing_is_lost();
    }
    world.settles().await;
}

/// The story with an end at this point; whether it came by it.
async fn end_at(point: &str, passes: u32) -> bool {
    let trap = Trap::at(point, passes);
    let mut world = World::begin().await;
    for step in STORY {
        let armed = trap.caught().is_none().then_some(&trap);
        if !step.take(&mut world, armed).await {
            println!("{step:?} ended at {point}");
            world.nothing_is_lost();
            world.restart().await;
        }
    }
    world.settles().await;
    trap.caught().is_some()
}
