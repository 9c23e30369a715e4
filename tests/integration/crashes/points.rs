//! Each point by itself, in one and the same story.

use openai_secrets::engine::failpoint::Trap;

use super::points;
use super::steps::STORY;
use super::world::World;

#[tokio::test]
async fn the_engine_may_end_at_every_point() {
    for point in points() {
        for passes in 0..3 {
            let trap = end_at(&point, passes).await;
            if trap.is_none() {
                assert!(passes > 0, "no step comes by {point}");
                break;
            }
        }
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

/// The story with an end at this point; where it ended, if it did.
async fn end_at(point: &str, passes: u32) -> Option<&'static str> {
    let trap = Trap::at(point, passes);
    let mut world = World::begin().await;
    for step in STORY {
        let armed = trap.caught().is_none().then_some(&trap);
        if !step.take(&mut world, armed).await {
            println!("{step:?} ended at {point}");
            world.nothing_is_lost();
            world.restart();
        }
    }
    world.settles().await;
    trap.caught()
}
