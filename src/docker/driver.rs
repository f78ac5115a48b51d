//! The `Driver` member of a container's config: which graph driver the container belongs to.

#[cfg(test)]
mod tests;

use super::json::{JsonError, Object};

/// The member's name as Docker writes it.
const DRIVER: &str = "Driver";

/// The graph driver that a container's config names; empty if it names none, which Docker reads as `aufs`.
///
/// # Errors
/// The text does not begin with a JSON object, or its `Driver` is not a string.
pub fn driver_of(config: &[u8]) -> Result<String, JsonError> {
    driver_in(&Object::parse_first(config)?)
}

/// [`driver_of`] for a text that is already parsed.
pub(super) fn driver_in(config: &Object<'_>) -> Result<String, JsonError> {
    Ok(config.string(DRIVER)?.unwrap_or_default())
}

/// Whether a container with this driver belongs to aufs. Up to 23.0, Docker takes a missing or empty driver as aufs.
pub fn is_aufs(driver: &str) -> bool {
    driver.is_empty() || driver == "aufs"
}

/// A container's config (`config.v2.json`, or `config.json` before 1.10) with another driver; `None` if the container
/// already belongs to a driver other than aufs.
///
/// Replaces the value of every top-level key that Go takes for `Driver`, whatever its case. If there is no such key,
/// the member is inserted first. All other bytes stay: numbers above 2^53, the order of keys, white space, unknown
/// members. `driver` must need no escaping.
///
/// # Errors
/// Same as [`driver_of`].
pub fn config_with_driver(config: &[u8], driver: &str) -> Result<Option<Vec<u8>>, JsonError> {
    let object = Object::parse_first(config)?;
    if !is_aufs(&driver_in(&object)?) {
        return Ok(None);
    }
    let value = format!("\"{driver}\"");
    let mut edited = Vec::with_capacity(config.len() + value.len() + 16);
    let mut copied = 0;
    for member in object.members().iter().filter(|member| member.is(DRIVER)) {
        edited.extend_from_slice(&config[copied..member.value.start]);
        edited.extend_from_slice(value.as_bytes());
        copied = member.value.end;
    }
    if copied == 0 {
        let comma = if object.members().is_empty() { "" } else { "," };
        edited.extend_from_slice(&config[..object.inside]);
        edited.extend_from_slice(format!("\"{DRIVER}\":{value}{comma}").as_bytes());
        copied = object.inside;
    }
    edited.extend_from_slice(&config[copied..]);
    Ok(Some(edited))
}
