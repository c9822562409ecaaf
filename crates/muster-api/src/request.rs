//! The id of an administrative request: given by the caller, so that a repeat is recognised, or made here.

use muster_core::RequestId;
use tonic::metadata::MetadataMap;

use crate::errors::{Error, Violation};
use crate::reason::Reason;

/// Metadata key that carries it.
const KEY: &str = "muster-request-id";

/// The id in the call's metadata, or a new one.
pub(crate) fn of_call(metadata: &MetadataMap) -> Result<RequestId, Error> {
    let Some(value) = metadata.get(KEY) else {
        return Ok(RequestId(rand::random()));
    };
    let id = value.to_str().ok().and_then(|text| uuid::Uuid::try_parse(text).ok());
    let id = id.ok_or_else(|| {
        let shown = crate::validate::shown(&String::from_utf8_lossy(value.as_bytes()));
        Violation::new(Reason::IdInvalid, KEY, shown, "a UUID as text")
    })?;
    Ok(RequestId(id.as_u128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_taken_and_a_missing_one_made() {
        let mut metadata = MetadataMap::new();
        let first = of_call(&metadata).unwrap();
        assert_ne!(first, of_call(&metadata).unwrap());
        let text = "0190f5f0-7e6b-7000-8000-000000000001";
        metadata.insert(KEY, text.parse().unwrap());
        assert_eq!(of_call(&metadata).unwrap().to_string(), text);
        metadata.insert(KEY, "seventeen".parse().unwrap());
        assert_eq!(of_call(&metadata).unwrap_err().reason(), Reason::IdInvalid);
    }
}
