//! Chain ids, by the rule that Docker names layers with.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The chain ids of these diff ids, bottom first, without `sha256:`. Source: moby v20.10 `layer/layer.go`,
/// `createChainIDFromParent`.
pub fn chain_ids(diff_ids: &Value) -> Option<Vec<String>> {
    let mut chains: Vec<String> = Vec::new();
    for diff in diff_ids.as_array()? {
        let diff = diff.as_str()?;
        let chain = match chains.last() {
            None => diff.strip_prefix("sha256:")?.to_owned(),
            Some(below) => {
                let both = format!("sha256:{below} {diff}");
                format!("{:x}", Sha256::digest(both))
            }
        };
        chains.push(chain);
    }
    Some(chains)
}
