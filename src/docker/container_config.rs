//! Single facts in the bytes of a container's config, for those who need no whole [`Container`](super::Container).
//! [`driver_of`](super::driver_of) is another.

use super::json::{JsonError, Object};

/// The container's name without the leading slash; `None` if the config has none.
///
/// # Errors
///
/// The text does not begin with a JSON object, or its name is not a string.
pub fn name_of(config: &[u8]) -> Result<Option<String>, JsonError> {
    name_in(&Object::parse_first(config)?)
}

/// [`name_of`] for a text that is already parsed.
pub(super) fn name_in(config: &Object<'_>) -> Result<Option<String>, JsonError> {
    let name = config.string("Name")?;
    Ok(name.map(|name| name.strip_prefix('/').unwrap_or(&name).to_owned()))
}

/// When the container was last started, as the config has it.
///
/// # Errors
///
/// The text does not begin with a JSON object, or one of these members has another type.
pub fn started_at(config: &[u8]) -> Result<Option<String>, JsonError> {
    match Object::parse_first(config)?.object("State")? {
        Some(state) => state.string("StartedAt"),
        None => Ok(None),
    }
}

/// The names of the container's volumes, in the config's order; one that is mounted twice is there twice.
///
/// # Errors
///
/// The text does not begin with a JSON object, or one of these members has another type.
pub fn volumes_of(config: &[u8]) -> Result<Vec<String>, JsonError> {
    let config = Object::parse_first(config)?;
    let Some(points) = config.object("MountPoints")? else {
        return Ok(Vec::new());
    };
    let mut volumes = Vec::new();
    for member in points.members() {
        let text = &config.text()[member.value.clone()];
        if text.first() == Some(&b'{') {
            let name = Object::parse(text)?.string("Name")?;
            volumes.extend(name.filter(|name| !name.is_empty()));
        }
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_slash_and_a_start_is_found() {
        let config = br#"{"Name":"/web","State":{"StartedAt":"2019-01-02T03:04:05Z"}}"#;
        assert_eq!(name_of(config).unwrap().as_deref(), Some("web"));
        let started = started_at(config).unwrap();
        assert_eq!(started.as_deref(), Some("2019-01-02T03:04:05Z"));
        assert_eq!((name_of(b"{}"), started_at(b"{}")), (Ok(None), Ok(None)));
        assert!(name_of(br#"{"Name":1}"#).is_err() && started_at(b"[]").is_err());
    }

    #[test]
    fn volumes_are_those_with_a_name() {
        let config = br#"{"MountPoints":{"/data":{"Name":"db","Driver":"local"},"/bind":{"Source":"/x","Name":""},"/n":null,"/2":{"name":"logs"}}}"#;
        assert_eq!(volumes_of(config).unwrap(), ["db", "logs"]);
        assert_eq!(volumes_of(b"{}").unwrap(), [""; 0]);
        assert!(volumes_of(br#"{"MountPoints":[]}"#).is_err());
    }
}
