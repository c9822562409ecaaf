//! Signature of the requests of `http` workers.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Value of the header `muster-signature`: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.
///
/// The receiver computes the same over the bytes it got, compares in constant time, and refuses old times.
pub fn signature(secret: &str, unix_seconds: u64, body: &[u8]) -> String {
    let mut text = format!("t={unix_seconds},v1=");
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(unix_seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_openssl_computes_it() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac topsecret
        assert_eq!(
            signature("topsecret", 1_700_000_000, br#"{"a":1}"#),
            "t=1700000000,v1=6a939b0c71853d606167625a15168ee9188c6a511c773ef4f42d307f3849e50f"
        );
    }
}
