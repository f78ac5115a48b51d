//! The command is killed at random moments, with all its threads at work.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::place::Place;
use super::support::reduced::reduced;
use super::sweep::in_parallel;

/// How often.
const NR_KILLS: u64 = 1000;
/// Every so many of them are tried each time.
const SHARE: usize = 3;
const WORDS: &[&str] = &[
    "convert",
    "--jobs=4",
    "--checkpoint=0",
    "--data-size=1G",
    "--metadata-size=8M",
];

/// A number below 1 for each seed. Source: S. Vigna, <https://prng.di.unimi.it/splitmix64.c>, the mixing step.
fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from(z >> 33).unwrap()) / f64::from(1u32 << 31)
}

fn quietly(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_conversion_that_is_killed_at_any_time_can_be_finished_and_taken_back() {
    killed_at_random(&(0..NR_KILLS).step_by(SHARE).collect::<Vec<_>>());
}

/// All of them, which takes minutes: see `docs/testing.md`.
#[test]
#[ignore = "takes minutes"]
fn a_conversion_that_is_killed_at_a_thousand_times_can_be_finished_and_taken_back() {
    killed_at_random(&(0..NR_KILLS).collect::<Vec<_>>());
}

fn killed_at_random(seeds: &[u64]) {
    let original = reduced().unwrap();
    let began = Instant::now();
    let took = {
        let place = Place::new().unwrap();
        place.put(&original).unwrap();
        let began = Instant::now();
        assert!(quietly(place.command(WORDS)).status().unwrap().success());
        began.elapsed()
    };
    let wrong = in_parallel(
        seeds,
        |_| {},
        |place, &seed| {
            let delay = took.mul_f64(fraction(seed));
            let result: Result<()> = (|| {
                place.put(&original)?;
                killed_after(place, delay)?;
                let broken = place.broken(&original);
                if seed % 2 == 0 {
                    broken.finish()
                } else {
                    broken.take_back()
                }
            })();
            result.with_context(|| format!("seed {seed}, killed after {delay:?} of {took:?}"))
        },
    );
    let (nr, elapsed) = (wrong.len(), began.elapsed().as_secs());
    let all = seeds.len();
    eprintln!("random kills: {all}, {nr} exceptions, {elapsed} s");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn killed_after(place: &Place, delay: Duration) -> Result<()> {
    let mut child = quietly(place.command(WORDS)).spawn()?;
    sleep(delay);
    child.kill()?;
    child.wait()?;
    Ok(())
}
