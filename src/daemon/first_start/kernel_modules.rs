//! Whether the host's kernels have what the driver needs: thin pools, and loop devices if the pool is in files.
//!
//! The files are described in depmod(8).

use std::path::{Path, PathBuf};

use super::outlook::Finding;
use crate::daemon::config::HostFiles;
use crate::devicemapper::Target;
use crate::sys::device_mapper::DeviceMapper;
use crate::sys::kernel_release;
use crate::tree::shown;

/// Where the modules of each kernel are.
const MODULES: &str = "/lib/modules";

/// A part of the kernel.
struct Part {
    /// The finding's word if it is missing.
    code: &'static str,
    /// Its module.
    module: &'static str,
    /// What Docker says without it.
    result: &'static str,
}

const THIN_POOL: Part = Part {
    code: "no-thin-pool",
    module: "dm-thin-pool",
    result: "without it Docker does not start with devicemapper (`driver not supported`)",
};

const LOOP: Part = Part {
    code: "no-loop",
    module: "loop",
    result: "without it Docker cannot use the pool's files; --thin-pool and --data-device need no loop devices",
};

/// Findings about kernels that lack a part.
pub(super) fn findings(files: &HostFiles, target: &Target) -> Vec<Finding> {
    let mut parts = vec![THIN_POOL];
    // A pool on given devices is not in files.
    if target.files.is_some() {
        parts.push(LOOP);
    }
    let found = parts.iter().map(|part| {
        if files.is_running_system() {
            of_the_running_kernel(files, part)
        } else {
            of_all_kernels(files, part)
        }
    });
    found.flatten().collect()
}

/// The kernel that runs now is the one that Docker will run on.
fn of_the_running_kernel(files: &HostFiles, part: &Part) -> Option<Finding> {
    if is_loaded(part) {
        return None;
    }
    let directory = Path::new(MODULES).join(kernel_release());
    if has_module(files, &directory, part) == Some(true) {
        return None;
    }
    let message = format!(
        "the running kernel has no {}, and no module for it is in {}: {}; install the package with this kernel's \
         modules, or boot a kernel that has it",
        part.module,
        shown(&directory),
        part.result
    );
    Some(Finding::refusal(part.code, message))
}

/// Nothing shows which of its kernels a host boots.
fn of_all_kernels(files: &HostFiles, part: &Part) -> Option<Finding> {
    let names = files.names(Path::new(MODULES)).into_iter();
    let kernels = names.map(|name| Path::new(MODULES).join(name));
    let known: Vec<(PathBuf, bool)> = kernels
        .filter_map(|directory| {
            let has = has_module(files, &directory, part)?;
            Some((files.place(&directory), has))
        })
        .collect();
    let without: Vec<_> = known
        .iter()
        .filter(|(_, has)| !has)
        .map(|(place, _)| shown(place))
        .collect();
    if without.is_empty() {
        return None;
    }
    let message = format!(
        "{}: the kernel has no module {}: {}",
        without.join(", "),
        part.module,
        part.result
    );
    Some(if without.len() == known.len() {
        let advice = "install the package with its modules, or another kernel";
        Finding::refusal(part.code, format!("{message}; {advice}"))
    } else {
        Finding::warning(
            part.code,
            format!("{message}; boot another of this host's kernels"),
        )
    })
}

fn is_loaded(part: &Part) -> bool {
    match part.module {
        "loop" => Path::new("/sys/module/loop").exists() || Path::new("/dev/loop-control").exists(),
        // Asking for a target makes the kernel load its module.
        _ => DeviceMapper::open()
            .and_then(|dm| dm.target_version("thin-pool"))
            .is_ok_and(|version| version.is_some()),
    }
}

/// Whether a kernel has the module, as a file or built in; `None` if no list of its modules can be read.
fn has_module(files: &HostFiles, directory: &Path, part: &Part) -> Option<bool> {
    let read = |name: &str| files.read(&directory.join(name)).ok().flatten();
    let lists: Vec<_> = ["modules.dep", "modules.builtin"]
        .into_iter()
        .filter_map(read)
        .collect();
    if lists.is_empty() {
        return None;
    }
    let is_it = |line: &str| {
        let path = line.split(':').next().unwrap_or(line);
        let file = path.rsplit('/').next().unwrap_or(path);
        // It may be compressed: `loop.ko.xz`.
        let name = file.split(".ko").next().unwrap_or(file);
        name.replace('_', "-") == part.module
    };
    let mut texts = lists.iter().map(|list| String::from_utf8_lossy(list));
    Some(texts.any(|text| text.lines().any(is_it)))
}
