//! The tenant of a call.

use muster_core::{DEFAULT_TENANT, Name};
use tonic::metadata::MetadataMap;

use crate::errors::Error;
use crate::validate;

/// Metadata key that names the tenant.
pub const TENANT_KEY: &str = "muster-tenant";

/// The tenant that the caller names; `default` when it names none.
pub(crate) fn of_call(metadata: &MetadataMap) -> Result<Name, Error> {
    let Some(value) = metadata.get(TENANT_KEY) else {
        return Ok(Name::from(DEFAULT_TENANT));
    };
    // What is not text shows as its bytes do in a log, and fails as a name.
    let text = String::from_utf8_lossy(value.as_bytes());
    Ok(validate::name("muster-tenant", &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    fn check(value: Option<&str>, expected: Result<&str, Reason>) {
        let mut metadata = MetadataMap::new();
        if let Some(value) = value {
            metadata.insert(TENANT_KEY, value.parse().expect("header value"));
        }
        let got = of_call(&metadata).map_err(|error| error.reason());
        assert_eq!(got.as_deref().map_err(|reason| *reason), expected, "{value:?}");
    }

    #[test]
    fn the_tenant_comes_from_metadata() {
        check(None, Ok("default"));
        check(Some("acme"), Ok("acme"));
        check(Some(""), Err(Reason::NameInvalid));
        check(Some("a b"), Err(Reason::NameInvalid));
    }
}
