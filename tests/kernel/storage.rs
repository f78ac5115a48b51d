//! What a converted root's devices lie on: loop files in the root, two block devices, or a pool that is active already.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    block::{Active, Link, Loop},
    lab::{Lab, last_lines, run},
};

/// The device-mapper name of the operator's pool.
pub(crate) const POOL_NAME: &str = "lab-thinpool";

/// Where a conversion writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `devicemapper/devicemapper/data` and `metadata` in the root.
    Files,
    /// Two block devices.
    Devices,
    /// An operator's pool.
    Pool,
}

/// Sizes of what a conversion writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bytes of the data device.
    pub(crate) data: u64,
    /// Bytes of the metadata device.
    pub(crate) metadata: u64,
    /// Data block of an operator's pool, in sectors.
    pub(crate) block: u64,
}

/// Ample for the fixture; a data block as LVM and `docker-storage-setup` choose it.
pub(crate) const AMPLE: Sizes = Sizes {
    data: 8 << 30,
    metadata: 64 << 20,
    block: 1024,
};

impl Sizes {
    /// The same with Docker's own data block.
    pub(crate) fn with_dockers_blocks(self) -> Self {
        Self { block: 128, ..self }
    }
}

/// Devices of a target, as loop devices over `data.img` and `metadata.img`; taken down when dropped.
#[derive(Debug)]
pub(crate) struct Storage {
    // In this order they go.
    pool: Option<(Link, Active)>,
    devices: Option<Devices>,
    /// Data block of the pool, in sectors.
    block: u64,
}

#[derive(Debug)]
struct Devices {
    data: Part,
    metadata: Part,
}

/// A block device that can be made to fail. Above goes first.
#[derive(Debug)]
struct Part {
    link: Link,
    between: Active,
    below: Loop,
}

/// The two devices of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Data,
    Metadata,
}

/// How a device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes fail, reads go on.
    Writes,
    /// All fails.
    All,
    /// Writes are lost without a word, as those that a disk has in its cache when the power goes.
    Losses,
}

impl Part {
    /// Attaches `directory/NAME.img` as `/dev/lab-NAME`.
    fn attach(directory: &Path, name: &str) -> Result<Self> {
        let below = Loop::attach(&directory.join(format!("{name}.img")))?;
        let sectors = size(below.path())? / 512;
        let table = format!("{} 0", below.path().display());
        let between = Active::create(&format!("lab-{name}"), sectors, ("linear", &table))?;
        // Devices have other numbers each time; the names under which tool and Docker know them have not.
        let link = Link::new(
            &Path::new("/dev").join(format!("lab-{name}")),
            &between.path(),
        )?;
        Ok(Self {
            link,
            between,
            below,
        })
    }

    fn fail(&self, fault: Fault) -> Result<()> {
        let flakey = |what| format!("{} 0 0 3600 1 {what}", self.below.path().display());
        match fault {
            Fault::Writes => self.between.reload(("flakey", &flakey("error_writes"))),
            Fault::Losses => self.between.reload(("flakey", &flakey("drop_writes"))),
            Fault::All => self.between.reload(("error", "")),
        }
    }

    fn mend(&self) -> Result<()> {
        let table = format!("{} 0", self.below.path().display());
        self.between.reload(("linear", &table))
    }

    fn close(self) -> Result<()> {
        drop(self.link);
        self.between.close()?;
        self.below.close()
    }
}

impl Storage {
    /// Nothing but the root itself.
    pub(crate) fn files() -> Self {
        Self {
            pool: None,
            devices: None,
            block: 0,
        }
    }

    /// Makes the target's devices in `directory`, empty.
    pub(crate) fn create(target: Target, directory: &Path, sizes: Sizes) -> Result<Self> {
        if target != Target::Files {
            for (name, size) in [("data.img", sizes.data), ("metadata.img", sizes.metadata)] {
                File::create(directory.join(name))?.set_len(size)?;
            }
        }
        Self::attach(target, directory, sizes.block)
    }

    /// Brings up the target's devices from the files in `directory`; `block` is the pool's, in sectors.
    pub(crate) fn attach(target: Target, directory: &Path, block: u64) -> Result<Self> {
        if target == Target::Files {
            return Ok(Self::files());
        }
        let devices = Devices {
            data: Part::attach(directory, "data")?,
            metadata: Part::attach(directory, "metadata")?,
        };
        let mut storage = Self {
            pool: None,
            devices: Some(devices),
            block,
        };
        if target == Target::Pool {
            storage.pool = Some(storage.activate()?);
        }
        Ok(storage)
    }

    fn activate(&self) -> Result<(Link, Active)> {
        let (data, metadata) = self.devices().context("a pool has devices")?;
        let (sectors, table) = pool_table(data, metadata, self.block, 0)?;
        let pool = Active::create(POOL_NAME, sectors, ("thin-pool", &table))?;
        let link = Link::new(&Path::new("/dev/mapper").join(POOL_NAME), &pool.path())?;
        Ok((link, pool))
    }

    /// The operator's pool, if it is one.
    pub(crate) fn pool(&self) -> Option<&Active> {
        self.pool.as_ref().map(|(_, pool)| pool)
    }

    /// The paths of the data and the metadata device, also of an operator's pool.
    pub(crate) fn devices(&self) -> Option<(&Path, &Path)> {
        let devices = self.devices.as_ref()?;
        Some((devices.data.link.path(), devices.metadata.link.path()))
    }

    /// Makes a device fail from now on.
    pub(crate) fn fail(&self, which: Which, fault: Fault) -> Result<()> {
        self.part(which)?.fail(fault)
    }

    /// Makes a device work again.
    pub(crate) fn mend(&self, which: Which) -> Result<()> {
        self.part(which)?.mend()
    }

    fn part(&self, which: Which) -> Result<&Part> {
        let devices = self.devices.as_ref().context("no devices")?;
        Ok(match which {
            Which::Data => &devices.data,
            Which::Metadata => &devices.metadata,
        })
    }

    /// The options that tell the tool of it.
    pub(crate) fn arguments(&self) -> Vec<PathBuf> {
        match (&self.pool, self.devices()) {
            (Some((link, _)), _) => vec!["--thin-pool".into(), link.path().to_owned()],
            (None, Some((data, metadata))) => vec![
                "--data-device".into(),
                data.to_owned(),
                "--metadata-device".into(),
                metadata.to_owned(),
            ],
            (None, None) => Vec::new(),
        }
    }

    /// The daemon's storage options for a root that Docker itself makes on it.
    pub(crate) fn dockers_options(&self) -> Vec<String> {
        match (&self.pool, self.devices()) {
            (Some((link, _)), _) => vec![format!("dm.thinpooldev={}", link.path().display())],
            (None, Some((data, metadata))) => vec![
                format!("dm.datadev={}", data.display()),
                format!("dm.metadatadev={}", metadata.display()),
            ],
            (None, None) => Vec::new(),
        }
    }

    /// Fails unless the devices are as empty as they were made: no thin device in the pool and no transaction, or the
    /// beginning of the metadata device zero, as a new pool requires.
    pub(crate) fn expect_unused(&self, lab: &Lab) -> Result<()> {
        if self.pool.is_some() {
            let dump = self.with_metadata(Path::new(""), |file| {
                run(lab.command("thin_dump").arg(file))
            })?;
            ensure!(
                dump.contains("transaction=\"0\"") && !dump.contains("<device "),
                "the pool is not empty: {}",
                last_lines(&dump, 20)
            );
        } else if let Some(devices) = &self.devices {
            let mut start = [1; 4096];
            File::open(devices.metadata.below.file())?.read_exact(&mut start)?;
            ensure!(start == [0; 4096], "the metadata device is not empty");
        }
        Ok(())
    }

    /// The numbers of the thin devices in the pool, none for other storage.
    pub(crate) fn thin_ids(&self, lab: &Lab) -> Result<Vec<u32>> {
        if self.pool.is_none() {
            return Ok(Vec::new());
        }
        let dump = self.with_metadata(Path::new(""), |file| {
            run(lab.command("thin_dump").arg(file))
        })?;
        let ids = dump.split("<device dev_id=\"").skip(1);
        ids.map(|rest| {
            let (id, _) = rest.split_once('"').context("thin_dump's form")?;
            Ok(id.parse()?)
        })
        .collect()
    }

    /// Does what an operator does whose pool needs repair, and nothing for other storage.
    pub(crate) fn repair(mut self, lab: &Lab) -> Result<Self> {
        let Some((link, pool)) = self.pool.take() else {
            return Ok(self);
        };
        drop(link);
        pool.close()?;
        // Not only the flag: data blocks whose first write failed are taken, and belong to nothing.
        let metadata = self.part(Which::Metadata)?.below.file();
        let dump = metadata.with_extension("xml");
        run(lab.command("thin_dump").arg(metadata).arg("-o").arg(&dump))?;
        run(lab
            .command("thin_restore")
            .arg("-i")
            .arg(&dump)
            .arg("-o")
            .arg(metadata))?;
        let clear = "--clear-needs-check-flag";
        run(lab.command("thin_check").arg(clear).arg(metadata))?;
        self.pool = Some(self.activate()?);
        Ok(self)
    }

    /// Calls `check` with the pool's metadata at rest, as a file; `root` is where it lies unless it is a device.
    pub(crate) fn with_metadata<T>(
        &self,
        root: &Path,
        check: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let file = match &self.devices {
            Some(devices) => devices.metadata.below.file().to_owned(),
            None => root.join("devicemapper/devicemapper/metadata"),
        };
        // A suspended pool has written all it has.
        let Some((_, pool)) = &self.pool else {
            return check(&file);
        };
        pool.suspend()?;
        let outcome = check(&file);
        pool.resume()?;
        outcome
    }

    /// Takes the devices down.
    pub(crate) fn close(self) -> Result<()> {
        if let Some((_, pool)) = self.pool {
            pool.close()?;
        }
        if let Some(devices) = self.devices {
            devices.data.close()?;
            devices.metadata.close()?;
        }
        Ok(())
    }
}

/// Sectors and table of a pool as Docker and LVM make it. `low_water` is in data blocks.
pub(crate) fn pool_table(
    data: &Path,
    metadata: &Path,
    block: u64,
    low_water: u64,
) -> Result<(u64, String)> {
    let size = size(data)?;
    let table = format!(
        "{} {} {block} {low_water} 1 skip_block_zeroing",
        metadata.display(),
        data.display()
    );
    Ok((size / 512, table))
}

/// Bytes of a file or a block device.
fn size(path: &Path) -> Result<u64> {
    let end = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    end.with_context(|| path.display().to_string())
}
