//! Which service of the host starts Docker.

use std::path::Path;

use super::appliance::appliance;
use super::host_files::HostFiles;
use super::scripts::{other_scripts, own_script};
use super::service::Service;
use super::systemd::{is_enabled, other_units, own_unit};
use crate::tree::shown;

/// What starts the host's services.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Init {
    Systemd,
    /// Any other: upstart, System V init, `OpenRC`, …
    Other,
    /// There is no `/sbin/init`, as below a root directory that is not complete.
    Unknown,
}

impl Init {
    /// Ubuntu 14.04 installs units for a systemd that it does not have.
    fn of(files: &HostFiles) -> Self {
        let init = Path::new("/sbin/init");
        let program = files.resolve(init).unwrap_or_default();
        match program.file_name() {
            _ if !files.exists(init) => Self::Unknown,
            Some(name) if name == "systemd" => Self::Systemd,
            _ => Self::Other,
        }
    }
}

/// How this host starts the daemon. If nothing shows that, the service has the reason as its
/// [`unknown`](Service::unknown).
pub(super) fn service(files: &HostFiles) -> Service {
    let init = Init::of(files);
    let own = (init != Init::Other).then(|| own_unit(files)).flatten();
    match own {
        Some(own) if !own.masked => return own,
        own => {
            let others = if init == Init::Other {
                Vec::new()
            } else {
                other_units(files)
            };
            if let Some(found) = own_of(others, |unit| is_enabled(files, unit)) {
                return found;
            }
            if let Some(masked) = own {
                return masked;
            }
        }
    }
    // The system of an appliance is in memory and has a script that reads what is here.
    if let Some(found) = appliance(files) {
        return found;
    }
    let has_upstart = init != Init::Systemd;
    own_script(files, has_upstart)
        .or_else(|| own_of(other_scripts(files, has_upstart), |_| true))
        .unwrap_or_else(|| Service {
            unknown: Some("nothing on this host shows what starts Docker".to_owned()),
            ..Service::default()
        })
}

/// The one of several that starts Docker. If more than one could, that is unknown.
fn own_of(mut found: Vec<Service>, is_used: impl Fn(&Service) -> bool) -> Option<Service> {
    if found.len() > 1 && found.iter().any(&is_used) {
        found.retain(is_used);
    }
    if found.len() < 2 {
        return found.pop();
    }
    let names: Vec<_> = found
        .iter()
        .filter_map(|one| one.path.as_deref())
        .map(shown)
        .collect();
    Some(Service {
        unknown: Some(format!(
            "{} each start a dockerd, and nothing shows which of them works on this root",
            names.join(" and ")
        )),
        ..Service::default()
    })
}
