//! The permitted contents of a journal. Its checksums detect damage, but they are no signature: a root may come from a
//! compromised host. So nothing is moved or restored, and no times are set, because a journal says so, unless a
//! conversion does the same.

use std::collections::BTreeSet;

use super::config_paths::directory_of_config;
use super::moves::{Move, place, replace};
use super::record::SwitchPlan;

/// Checks that the moves are those of a conversion: the two directories, then containers' configs, each once; and that
/// only directories in which something is moved get their times restored.
///
/// # Errors
///
/// The description of what no conversion writes.
pub(super) fn check(switching: &SwitchPlan) -> Result<(), &'static str> {
    let [driver, image, configs @ ..] = &switching.moves[..] else {
        return Err("it does not move what a conversion moves");
    };
    let two = [
        place("devicemapper", "devicemapper"),
        place("image", "image/devicemapper"),
    ];
    if [driver, image] != [&two[0], &two[1]] {
        return Err("it does not move what a conversion moves");
    }
    let mut directories = BTreeSet::from(["image"]);
    let mut seen = BTreeSet::new();
    for step in configs {
        let Move::Replace { to, .. } = step else {
            return Err("it moves a directory that no conversion moves");
        };
        let directory = directory_of_config(to)
            .ok_or("it replaces something that is not a container's config")?;
        if *step != replace(to) || !seen.insert(to) {
            return Err("it does not replace a container's config the way a conversion does");
        }
        directories.insert(directory);
    }
    let touched = |path: &str| directories.contains(path);
    if !switching.times.iter().all(|times| touched(&times.path)) {
        return Err("it sets the times of a directory in which nothing is moved");
    }
    if !switching.written.is_sound() {
        return Err("it describes files that no conversion writes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::file_digests::FileDigests;
    use crate::commit::times::Times;

    const CONTAINER: &str =
        "containers/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn of_a_conversion() -> SwitchPlan {
        let times = |path: &str| Times {
            path: path.to_owned(),
            accessed: (1, 0),
            modified: (1, 0),
        };
        SwitchPlan {
            moves: vec![
                place("devicemapper", "devicemapper"),
                place("image", "image/devicemapper"),
                replace(&format!("{CONTAINER}/config.v2.json")),
                replace(&format!("{CONTAINER}/config.json")),
            ],
            times: vec![times("image"), times(CONTAINER)],
            written: FileDigests::default(),
            data: None,
            aufs: None,
            daemon: None,
        }
    }

    #[test]
    fn what_a_conversion_writes_is_accepted() {
        assert_eq!(check(&of_a_conversion()), Ok(()));
    }

    #[test]
    fn no_other_move_is_accepted() {
        let forgeries: [fn(&mut SwitchPlan); 10] = [
            |one| one.moves.clear(),
            |one| one.moves.swap(0, 1),
            |one| one.moves[0] = place("devicemapper", "volumes"),
            |one| one.moves.push(place("x", "volumes")),
            |one| one.moves.push(replace("volumes/v/_data/file")),
            |one| {
                one.moves
                    .push(replace("containers/../volumes/config.v2.json"));
            },
            |one| one.moves.push(replace(&format!("{CONTAINER}/hostname"))),
            |one| one.moves.push(replace(&format!("{CONTAINER}/config.json"))),
            |one| {
                one.moves[2] = Move::Replace {
                    from: "elsewhere".to_owned(),
                    to: format!("{CONTAINER}/config.v2.json"),
                    original: format!("originals/{CONTAINER}/config.v2.json"),
                }
            },
            |one| {
                one.moves[1] = Move::Place {
                    from: "image".to_owned(),
                    to: "image/devicemapper".to_owned(),
                    stood: "../volumes".to_owned(),
                }
            },
        ];
        for (number, forge) in forgeries.into_iter().enumerate() {
            let mut switching = of_a_conversion();
            forge(&mut switching);
            assert!(check(&switching).is_err(), "forgery {number}");
        }
    }

    #[test]
    fn only_directories_in_which_something_is_moved_get_their_times_back() {
        for path in [
            "",
            "volumes",
            "/etc",
            "containers",
            "image/aufs",
            "image/../volumes",
        ] {
            let mut switching = of_a_conversion();
            switching.times[0].path = path.to_owned();
            assert!(check(&switching).is_err(), "{path}");
        }
    }
}
