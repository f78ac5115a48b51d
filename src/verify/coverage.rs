//! How much of a root a verification has checked.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer_report::{Contents, LayerReport, Proof, Role, Tree};

/// Numbers of layers, without the base device. A layer may be counted in several of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCounts {
    /// All layers.
    pub layers: u64,
    /// Layers whose contents were checked: read back, or proven by checksums of what was written.
    pub read: u64,
    /// Layers whose contents a quick verification left out.
    pub not_read: u64,
    /// Layers whose entries were not compared with aufs.
    pub not_compared: u64,
    /// Layers with nothing that says what their contents must be.
    pub not_verifiable: u64,
    /// Layers that exist but could not be checked: with any of these, the verdict is no better than
    /// [`NotVerified`](super::layer_report::Verdict::NotVerified).
    #[serde(default)]
    pub not_verified: u64,
    /// Layers whose devices were proven, so that the bytes of their files in aufs were not read: aufs may have
    /// different bytes.
    #[serde(default)]
    pub not_read_in_aufs: u64,
}

/// What a verification has checked and what it has not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Numbers of layers.
    #[serde(flatten)]
    pub counts: LayerCounts,
    /// The bytes of all layers' files, as far as known.
    pub bytes: u64,
    /// The bytes of the layers whose contents were checked.
    pub bytes_read: u64,
    /// The fraction of all bytes that these are, 0 to 1.
    pub bytes_read_share: f64,
    /// Why layers were not checked, not compared or not verifiable: each reason once, with the number of layers that
    /// have it.
    pub reasons: Vec<Reason>,
}

/// A step that was omitted for some layers, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The step that was omitted.
    pub what: Omission,
    /// Why.
    pub reason: String,
    /// The number of layers.
    pub layers: u64,
}

/// A step that was omitted for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Omission {
    /// Neither its entries nor its contents were checked, although they exist.
    NotVerified,
    /// Its entries were not compared with aufs.
    NotCompared,
    /// Its contents could not be verified.
    NotVerifiable,
}

impl Coverage {
    /// The coverage of the layers in a report. A root without devices has nothing to compare with aufs.
    pub(super) fn of(layers: &[LayerReport], has_devices: bool) -> Self {
        let mut coverage = Self::default();
        for layer in layers.iter().filter(|layer| layer.role != Role::Base) {
            coverage.add(layer, has_devices);
        }
        // The base device has no contents, but it can be inaccessible like all others.
        for base in layers.iter().filter(|layer| layer.role == Role::Base) {
            if let Some(reason) = &base.not_verified {
                coverage.add_reason(Omission::NotVerified, reason);
            }
        }
        coverage.bytes_read_share = share(coverage.bytes_read, coverage.bytes);
        coverage
    }

    fn add(&mut self, layer: &LayerReport, has_devices: bool) {
        self.counts.layers += 1;
        self.bytes = self.bytes.saturating_add(layer.bytes);
        if let Some(reason) = &layer.not_verified {
            self.counts.not_verified += 1;
            self.add_reason(Omission::NotVerified, reason);
        }
        if let Tree::NotCompared { reason } = &layer.tree
            && has_devices
        {
            self.counts.not_compared += 1;
            if layer.not_verified.is_none() {
                self.add_reason(Omission::NotCompared, reason);
            }
        }
        if has_devices && is_unread_in_aufs(layer) {
            self.counts.not_read_in_aufs += 1;
        }
        match &layer.contents {
            Contents::NotRead => self.counts.not_read += 1,
            Contents::NotVerifiable { reason } => {
                self.counts.not_verifiable += 1;
                if layer.not_verified.is_none() {
                    self.add_reason(Omission::NotVerifiable, reason);
                }
            }
            _ => {
                self.counts.read += 1;
                self.bytes_read = self.bytes_read.saturating_add(layer.bytes);
            }
        }
    }

    fn add_reason(&mut self, what: Omission, reason: &str) {
        let known = self
            .reasons
            .iter_mut()
            .find(|known| known.what == what && known.reason == reason);
        match known {
            Some(known) => known.layers += 1,
            None => self.reasons.push(Reason {
                what,
                reason: reason.to_owned(),
                layers: 1,
            }),
        }
    }

    /// Whether everything was read and compared.
    pub(super) fn is_whole(&self) -> bool {
        let counts = &self.counts;
        counts.not_read + counts.not_compared + counts.not_verifiable + counts.not_verified == 0
    }
}

/// Whether a layer's bytes in aufs were not read because its device was proven.
fn is_unread_in_aufs(layer: &LayerReport) -> bool {
    let by_device = matches!(
        layer.contents,
        Contents::Verified {
            by: Proof::DiffId,
            bytes: 1..,
            ..
        }
    );
    let is_in_aufs = matches!(layer.tree, Tree::Same { .. } | Tree::AufsChanged { .. });
    by_device && is_in_aufs && !layer.read_in_aufs
}

/// How much was checked, and the numbers of omissions, as the end of a sentence.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let percent = percent(self.bytes_read_share);
        write!(
            f,
            "contents of {} of {} layers, {percent}% of the bytes",
            counts.read, counts.layers
        )?;
        let others = [
            (counts.not_read, "not read"),
            (counts.not_compared, "not compared"),
            (counts.not_verifiable, "not verifiable"),
            (counts.not_verified, "not verified"),
        ];
        for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotVerified => "not verified",
            Self::NotCompared => "names and attributes not compared",
            Self::NotVerifiable => "contents not verified",
        })
    }
}

/// `2 layers: contents not verified: …`
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layers, s) = (self.layers, if self.layers == 1 { "" } else { "s" });
        write!(f, "{layers} layer{s}: {}: {}", self.what, self.reason)
    }
}

/// A percentage with enough digits, and never 100 for less than everything.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 100.0 || percent <= 0.0 {
        format!("{percent:.0}")
    } else if percent < 10.0 {
        format!("{:.1}", percent.max(0.1))
    } else {
        format!("{:.0}", percent.min(99.0))
    }
}

/// The part as a fraction of the whole; 1 if the whole is zero.
#[expect(
    clippy::cast_precision_loss,
    reason = "it is shown with a few digits only"
)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part.min(whole) as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_to_all_or_to_nothing() {
        for (share, text) in [
            (0.0, "0"),
            (0.000_001, "0.1"),
            (0.004, "0.4"),
            (0.5, "50"),
            (0.999_9, "99"),
            (1.0, "100"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
