//! A root with damage of every class.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::used::tool;
use crate::{
    dockerd::with_dockerd,
    lab::Lab,
    roots::{self, Root},
    runner::directory,
    storage::{AMPLE, Storage},
    support::chain::chain_ids,
    variant::Variant,
};

/// The store that is damaged.
const STORE: &str = "image/aufs";

/// Docker on devicemapper shows what can be converted of a root with damage of every class, and works with it.
pub(super) fn docker_shows_exactly_the_rest_of_a_damaged_root(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let path = scratch.join("docker");
    lab.copy(&roots::aufs(lab)?, &path)?;
    damage(&path)?;
    let storage = Storage::create(variant.target, scratch, AMPLE)?;
    let refused = tool(lab, &path, &["convert", "--dry-run"])?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("--skip-damaged"),
        "{refused:?}"
    );
    let options = roots::convert_with(lab, &path, variant, &storage, &["--skip-damaged"])?;
    let root = Root::new(path, storage, options);
    let verified = tool(lab, root.path(), &["verify", "--full"])?;
    ensure!(verified.code == Some(0), "{verified:?}");

    let copied = directory(scratch, "copied")?;
    with_dockerd(lab, &root, |daemon| {
        let shown = |words: &[&str]| -> Result<BTreeSet<String>> {
            Ok(daemon.docker(words)?.lines().map(str::to_owned).collect())
        };
        let images = shown(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let wanted = [
            "lab/app:1",
            "lab/app:2",
            "lab/base:1",
            "lab/tool:1",
            "lab/tool:latest",
        ];
        ensure!(images == wanted.map(str::to_owned).into(), "{images:?}");
        let containers = shown(&["ps", "-a", "--format", "{{.Names}}"])?;
        let wanted = ["live", "never-started", "shop_web_1", "shop_worker_1"];
        ensure!(
            containers == wanted.map(str::to_owned).into(),
            "{containers:?}"
        );
        let run = [
            "run",
            "--rm",
            "--net=none",
            "lab/app:1",
            "/bin/sha256sum",
            "/bin/xt",
        ];
        daemon.docker(&run)?;
        // Their devices are mounted for that.
        for name in wanted {
            let from = format!("{name}:/opt");
            let to = copied.join(name);
            let to = to.to_str().context("a path of text")?;
            daemon.docker(&["cp", &from, to])?;
        }
        Ok(())
    })
}

fn damage(root: &Path) -> Result<()> {
    let names: Value =
        serde_json::from_slice(&fs::read(root.join(STORE).join("repositories.json"))?)?;
    let chains = |repository: &str, name: &str| -> Result<Vec<String>> {
        let id = names["Repositories"][repository][name].as_str();
        let id = id
            .and_then(|id| id.strip_prefix("sha256:"))
            .context("an id")?;
        let config = root.join(STORE).join("imagedb/content/sha256").join(id);
        let config: Value = serde_json::from_slice(&fs::read(config)?)?;
        chain_ids(&config["rootfs"]["diff_ids"]).context("diff ids")
    };
    let record = |chain: &str| root.join(STORE).join("layerdb/sha256").join(chain);
    let top = |repository: &str, name: &str| -> Result<PathBuf> {
        Ok(record(chains(repository, name)?.last().context("a layer")?))
    };
    let cache =
        |record: &Path| -> Result<String> { Ok(fs::read_to_string(record.join("cache-id"))?) };

    // Cannot be converted: the branch is gone.
    let lost = cache(&top("lab/committed", "lab/committed:1")?)?;
    fs::remove_dir_all(root.join("aufs/diff").join(lost))?;
    // Rebuilt: a size, a whole record, a parent list, and what a container's layers lie on.
    fs::write(top("lab/tool", "lab/tool:1")?.join("size"), "")?;
    let below = chains("lab/app", "lab/app:1")?;
    fs::remove_dir_all(record(&below[below.len() - 2]))?;
    let mounts = root.join(STORE).join("layerdb/mounts");
    let web = container(root, "shop_web_1")?;
    let web = mounts.join(web.file_name().context("an id")?);
    let init = fs::read_to_string(web.join("init-id"))?;
    fs::write(root.join("aufs/layers").join(init), "")?;
    let live = container(root, "live")?;
    fs::write(
        mounts
            .join(live.file_name().context("an id")?)
            .join("parent"),
        "",
    )?;
    // Docker passes over it; the last, for the others are found by their configs.
    fs::write(container(root, "bindy")?.join("config.v2.json"), "")?;
    // Kept: Docker works with both as they are.
    fs::write(top("lab/base", "lab/base:1")?.join("tar-split.json.gz"), "")?;
    let file = root.join(STORE).join("repositories.json");
    let text = fs::read_to_string(&file)?;
    let old = "{\"Repositories\":{\"old\":{\"old:1\":\"8c2e06607696\"},";
    fs::write(&file, text.replacen("{\"Repositories\":{", old, 1))?;
    Ok(())
}

fn container(root: &Path, name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(root.join("containers"))? {
        let path = entry?.path();
        let config: Value = serde_json::from_slice(&fs::read(path.join("config.v2.json"))?)?;
        if config["Name"] == format!("/{name}") {
            return Ok(path);
        }
    }
    anyhow::bail!("no container {name}")
}
