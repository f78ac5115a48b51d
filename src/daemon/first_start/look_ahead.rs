//! All checks before the first start.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::choice::{DRIVER, Directories, without_a_name};
use super::outlook::{Finding, Outlook};
use super::switch::{LOOK, Switch};
use super::{
    containers, device_names, kernel_modules, keys, space, storage_setup, swarm, thin_check,
};
use crate::chain::Chain;
use crate::daemon::config::{Directive, HostFiles, InstalledDocker, Setting, Settings};
use crate::daemon::finding::Host;
use crate::devicemapper::storage_option::Verdict;
use crate::devicemapper::{Target, Version, storage_option};
use crate::docker::{Model, Root};
use crate::tree::shown;

/// The paths of udev's daemon. Without it, Docker's check for udev synchronization fails.
const UDEV: [&str; 7] = [
    "/lib/systemd/systemd-udevd",
    "/usr/lib/systemd/systemd-udevd",
    "/sbin/udevd",
    "/usr/sbin/udevd",
    "/lib/udev/udevd",
    "/usr/lib/udev/udevd",
    "/bin/udevadm",
];

/// What to expect of Docker's first start on the converted root. Changes nothing.
///
/// `switch` is the planned change to the daemon's configuration, if there is one.
pub fn look_ahead(
    host: &Host,
    root: &Root,
    model: &Model,
    target: &Target,
    switch: Option<&Switch>,
) -> Outlook {
    let mut files = HostFiles::new(&host.root);
    if let Some(Switch::Edit(edit)) = switch {
        files = files.with_content(&edit.path, edit.content.as_bytes());
    }
    let settings = Settings::read(&files);
    let installed = InstalledDocker::find(&files, settings.service.program.as_deref());
    let view = View {
        files: &files,
        settings: &settings,
        version: installed.version,
        target,
    };
    let mut findings = installed.findings();
    findings.extend(view.of_the_service());
    findings.extend(view.of_the_driver(root));
    findings.extend(view.of_the_options());
    findings.extend(view.of_the_root(root));
    let options: Vec<_> = settings.options().iter().map(|one| &*one.value).collect();
    findings.extend(kernel_modules::findings(&files, target));
    findings.extend(device_names::findings(target));
    findings.extend(thin_check::findings(&files, target));
    findings.extend(storage_setup::findings(&files));
    findings.extend(swarm::findings(&files, root, model));
    findings.extend(space::findings(target, &options));
    findings.extend(containers::findings(root, model));
    Outlook::new(findings)
}

/// The facts that the findings are derived from.
struct View<'a> {
    files: &'a HostFiles,
    settings: &'a Settings,
    version: Option<Version>,
    target: &'a Target,
}

impl View<'_> {
    /// Settings that could not be read, and settings that Docker refuses or ignores.
    fn of_the_service(&self) -> Vec<Finding> {
        let settings = self.settings;
        let mut findings = settings.findings.clone();
        if let Err(error) = &settings.config {
            let message = format!("{error}: Docker does not start with it; fix it");
            findings.push(Finding::refusal("config-unreadable", message));
        }
        if let Ok(config) = &settings.config {
            findings.extend(keys::findings(config, &self.config_place(), self.version));
        }
        for (flag, file) in settings.told_twice() {
            let message = format!(
                "{flag}: {} is also set in {}, and Docker does not start when both set it, even to the same value; \
                 remove one",
                file.directive.key(),
                file.origin
            );
            findings.push(Finding::refusal("told-twice", message));
        }
        findings.extend(self.of_what_starts_it());
        findings
    }

    /// Settings that nothing reads, and what is known about the service itself.
    fn of_what_starts_it(&self) -> Vec<Finding> {
        let settings = self.settings;
        let mut findings = Vec::new();
        for told in &settings.unread {
            let service = settings.service.path.as_deref().unwrap_or(Path::new(""));
            let message = format!(
                "{told}: has no effect, because {} does not read it",
                shown(service)
            );
            findings.push(Finding::warning("not-read", message));
        }
        if settings.service.masked {
            let path = settings.service.path.as_deref().unwrap_or(Path::new(""));
            let message = format!(
                "{}: docker.service is masked: `systemctl unmask docker.service` before Docker is started",
                shown(path)
            );
            findings.push(Finding::remark("masked", message));
        }
        if let Some(why) = &settings.service.unknown {
            let message = format!("{why}: {LOOK}");
            findings.push(Finding::warning("service-unknown", message));
        }
        findings
    }

    fn config_place(&self) -> std::path::PathBuf {
        self.files.place(&self.settings.config_path)
    }

    /// The driver that Docker will use.
    fn of_the_driver(&self, root: &Root) -> Vec<Finding> {
        let advice = format!(
            "set \"storage-driver\" to devicemapper {}",
            self.settings.place(self.files)
        );
        match self.settings.driver() {
            Some(told) if told.value == DRIVER => Vec::new(),
            Some(told) => {
                let message = format!(
                    "{told}: with it Docker does not use the converted root and shows none of its containers; change \
                     it to devicemapper"
                );
                vec![Finding::refusal("other-driver", message)]
            }
            None => match Directories::read(&root.data.dir) {
                Err(error) => vec![Finding::warning("unreadable", Chain(&error).to_string())],
                Ok(directories) => {
                    // The installed version may be unknown; 20.10 is the last that can use devicemapper unnamed.
                    let version = self.version.unwrap_or(Version::new(20, 10));
                    let refused = without_a_name(&directories, version).map(|why| {
                        Finding::refusal(
                            "driver-not-named",
                            format!("no storage driver is set: {why}; {advice}"),
                        )
                    });
                    let unnamed = || {
                        let message = format!(
                            "no storage driver is set: Docker before 23.0 finds devicemapper by itself; {advice}"
                        );
                        Finding::remark("driver-not-named", message)
                    };
                    vec![refused.unwrap_or_else(unnamed)]
                }
            },
        }
    }

    /// Checks each storage option, all of them together, and those that are missing.
    fn of_the_options(&self) -> Vec<Finding> {
        let told = self.settings.options();
        let options: Vec<_> = told.iter().map(|one| &*one.value).collect();
        let mut findings = Vec::new();
        for told in &told {
            match storage_option::judge(&told.value, self.target, self.version) {
                Verdict::Fits => {}
                Verdict::Odd(why) => {
                    findings.push(Finding::warning("option-odd", format!("{told}: {why}")));
                }
                Verdict::Refused(why) => {
                    findings.push(Finding::refusal("option-refused", format!("{told}: {why}")));
                }
            }
        }
        if let Some(why) = storage_option::judge_all(&options, self.version) {
            findings.push(Finding::refusal("option-refused", why));
        }
        let missing = storage_option::missing(&options, self.target);
        if !missing.is_empty() {
            let message = format!(
                "storage-opts: {} is missing: without it Docker looks for loop files, makes new ones and does not start; \
                 add it where the options are, or {}",
                missing.join(", "),
                self.settings.place(self.files)
            );
            findings.push(Finding::refusal("option-missing", message));
        }
        let has_udev = UDEV.iter().any(|path| self.files.exists(Path::new(path)));
        if !has_udev && !storage_option::overrides_udev_check(&options) {
            findings.push(Finding::warning(
                "no-udev",
                format!(
                    "no udev was found on the host: without it devicemapper says `driver not supported`; add storage option \
                     dm.override_udev_sync_check=true where the options are, or to storage-opts {}",
                    self.settings.place(self.files)
                ),
            ));
        }
        findings
    }

    /// Checks whether Docker will use this root at all.
    fn of_the_root(&self, root: &Root) -> Vec<Finding> {
        let mut findings = Vec::new();
        let told = self.settings.data_root();
        let remapped = root.owner().uid != 0;
        let used = if remapped {
            root.path().parent().unwrap_or(root.path())
        } else {
            root.path()
        };
        // Shown as the host's path: a rescue system's mount point does not belong in the host's settings.
        let host_path = |path: &Path| shown(&self.files.host_path(path));
        let directive = |directive| self.settings.of(directive).last().map(Setting::to_string);
        if !is_same_directory(&self.files.place(&told), used) {
            let by = directive(Directive::DataRoot).or_else(|| directive(Directive::Graph));
            let message = format!(
                "{}: Docker uses {}, not {}: is this the root that is meant?",
                by.unwrap_or_else(|| "data-root is not set".to_owned()),
                shown(&told),
                host_path(used)
            );
            findings.push(Finding::warning("other-root", message));
        }
        let remap = self.settings.of(Directive::UsernsRemap).last();
        match (remap.filter(|told| !told.value.is_empty()), remapped) {
            (Some(told), false) => findings.push(Finding::warning(
                "other-root",
                format!(
                    "{told}: Docker uses a root UID.GID in {}, not that directory itself",
                    host_path(root.path())
                ),
            )),
            (None, true) => findings.push(Finding::warning(
                "other-root",
                format!(
                    "userns-remap is not set: Docker uses {}, not {} in it",
                    host_path(used),
                    host_path(root.path())
                ),
            )),
            _ => {}
        }
        findings
    }
}

fn is_same_directory(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let (a, b) = (identity(a), identity(b));
    a.is_some() && a == b
}
