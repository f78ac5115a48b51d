//! `aufs2dm inspect`.

use std::fmt::Write as _;

use super::args::InspectArgs;
use super::exit::DamageFound;
use super::output::{print, print_json};
use super::place::Place;
use super::printable::printable;
use super::quiet::keep_access_times;
use super::signals::cancel_by_signals;
use crate::command::{Health, Inspection, health, inspect};
use crate::docker::{ContainerSummary, Hits, ImageSummary, Inventory, Reference};
use crate::privileges::{self, Purpose};
use crate::tree::{escape, shown};
use crate::units::Bytes;
use crate::words::counted;

/// Lists that are longer are cut in the text; `--json` has them whole.
const SHOWN: usize = 20;

/// Says what is in a root.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let place = args.root.place_to_look()?;
    keep_access_times(&place.root);
    if args.health {
        return tell_health(args, &place);
    }
    let inspection = inspect(&place.root)?;
    let root = &inspection.inventory.root;
    if let Err(error) = privileges::check(&place.host, root, Purpose::Read) {
        log::warn!("{error}");
    }
    if args.root.json {
        print_json(&inspection)
    } else {
        print(&text(&inspection))
    }
}

/// Says what is damaged in a root.
fn tell_health(args: &InspectArgs, place: &Place) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let health = health(&place.root, &cancel)?;
    if let Err(error) = privileges::check(&place.host, &health.root, Purpose::Read) {
        log::warn!("{error}");
    }
    if args.root.json {
        print_json(&health)?;
    } else {
        print(&health_text(&health))?;
    }
    if health.damage.is_empty() {
        Ok(())
    } else {
        Err(DamageFound.into())
    }
}

fn health_text(health: &Health) -> String {
    let root = shown(&health.root);
    if health.damage.is_empty() {
        return format!("{root}: no damage found in {}\n", health.looked_at);
    }
    let nr = counted(health.damage.len() as u64, "fault");
    let mut text = format!("{root}: {nr} found in {}\n", health.looked_at);
    for damage in &health.damage {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}", printable(&damage.object));
        let _ = writeln!(text, "  fault    {}", printable(&damage.cause));
        let _ = writeln!(text, "  affects  {}", printable(&affected(&damage.hits)));
        if !damage.consequence.is_empty() {
            let _ = writeln!(text, "  convert  {}", printable(&damage.consequence));
        }
    }
    text
}

fn affected(hits: &Hits) -> String {
    let text = hits.to_string();
    text.strip_prefix("affects ").unwrap_or(&text).to_owned()
}

fn text(inspection: &Inspection) -> String {
    let inventory = &inspection.inventory;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_head(&mut text, inspection);
    section(&mut text, "images", &inventory.images, image);
    let stays = if inventory.nr_devices.is_some() {
        ", Docker does not load it: another driver, or no device"
    } else {
        ", uses another driver: stays as it is"
    };
    section(&mut text, "containers", &inventory.containers, |one| {
        container(one, stays)
    });
    section(
        &mut text,
        "layers that nothing refers to",
        &inventory.orphans,
        |orphan| format!("{} ({})", orphan.id, orphan.reason),
    );
    section(
        &mut text,
        "remapped roots, each to be converted separately",
        &inventory.remapped_roots,
        |path| path.display().to_string(),
    );
    section(&mut text, "notices", &inventory.warnings, |warning| {
        warning.message.clone()
    });
    section(
        &mut text,
        match inventory.nr_devices {
            Some(_) => "problems",
            None => "damage, and what a conversion does with it",
        },
        &inventory.problems,
        |problem| match inventory.nr_devices {
            Some(_) => problem.message.clone(),
            None => format!("{}: {}", problem.message, problem.consequence),
        },
    );
    text
}

fn write_head(text: &mut String, inspection: &Inspection) -> std::fmt::Result {
    let inventory = &inspection.inventory;
    writeln!(text, "root        {}", inventory.root.display())?;
    writeln!(
        text,
        "driver      {}, {} (Docker {})",
        inventory.driver, inventory.layout, inventory.docker_versions
    )?;
    if let Some(conversion) = &inspection.conversion {
        writeln!(text, "conversion  {}", conversion.meaning)?;
    }
    writeln!(text, "images      {}", inventory.images.len())?;
    writeln!(text, "containers  {}", inventory.containers.len())?;
    write_layers(text, inventory)?;
    writeln!(text, "volumes     {}", inventory.nr_volumes)?;
    if inventory.has_devicemapper
        && inventory.nr_devices.is_none()
        && inspection.conversion.is_none()
    {
        writeln!(text, "            there is already a devicemapper root")?;
    }
    Ok(())
}

fn write_layers(text: &mut String, inventory: &Inventory) -> std::fmt::Result {
    if let Some(devices) = inventory.nr_devices {
        return writeln!(
            text,
            "layers      {devices} thin devices: {} of images ({}), {} of the build cache, the rest of containers or unused",
            inventory.nr_image_layers,
            Bytes(inventory.image_layer_bytes),
            inventory.nr_buildkit_layers,
        );
    }
    writeln!(
        text,
        "layers      {} in aufs: {} of images ({}), {} of the build cache, {} that nothing refers to",
        inventory.nr_aufs_layers,
        inventory.nr_image_layers,
        Bytes(inventory.image_layer_bytes),
        inventory.nr_buildkit_layers,
        inventory.orphans.len()
    )
}

fn section<T>(text: &mut String, title: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for item in items.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", line(item));
    }
    if items.len() > SHOWN {
        let _ = writeln!(
            text,
            "  and {} more (--json lists all)",
            items.len() - SHOWN
        );
    }
}

fn image(image: &ImageSummary) -> String {
    let names: Vec<_> = image.references.iter().map(Reference::to_string).collect();
    let names = if names.is_empty() {
        "<none>".to_owned()
    } else {
        names.join(", ")
    };
    format!(
        "{:.19} {:>10} {:>3} {:6}  {names}",
        image.id.to_string(),
        Bytes(image.bytes).to_string(),
        image.nr_layers,
        if image.nr_layers == 1 {
            "layer"
        } else {
            "layers"
        }
    )
}

/// `stays` is said of one that the root's driver has not.
fn container(container: &ContainerSummary, stays: &str) -> String {
    let image = container
        .image_name
        .as_ref()
        .map_or_else(|| "<no name>".to_owned(), Reference::to_string);
    let restart = match container.restart {
        crate::docker::RestartPolicy::No => String::new(),
        policy => format!(", restart {policy}"),
    };
    let stays = if container.converted { "" } else { stays };
    format!(
        "{:.12} {:24} {image} ({}{restart}{stays})",
        container.id.to_string(),
        escape(container.name.as_bytes()),
        container.status
    )
}
