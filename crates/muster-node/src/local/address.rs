//! Which addresses an `http` worker may call: those of the public internet, unless private ones are allowed.
//!
//! A URL of a tenant must not reach what only this machine can reach. Names are resolved here and the very addresses
//! that were checked are connected to, so a name that answers differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// An address that is not of the public internet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address}, a private address, which is not allowed")]
pub(crate) struct PrivateAddress {
    host: String,
    address: IpAddr,
}

/// Checks a host that is an address itself; names are checked when they are resolved.
pub(crate) fn check_host(url: &reqwest::Url) -> Result<(), PrivateAddress> {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) if !is_public(address) => Err(PrivateAddress {
            host: host.to_owned(),
            address,
        }),
        _ => Ok(()),
    }
}

/// Resolves names to public addresses only. A name with any other address is refused as a whole.
pub(crate) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            if let Some(private) = addresses.iter().find(|address| !is_public(address.ip())) {
                let address = private.ip();
                return Err(PrivateAddress { host, address }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        // Shared between carriers and their customers.
        || (a == 100 && b & 0xc0 == 64)
        // Protocol assignments, and benchmarks.
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18)
        // Reserved, and broadcast.
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in other clothes: mapped, compatible (with loopback and unspecified), translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Local use of translation, Teredo, documentation.
        [0x64, 0xff9b, 1, ..] | [0x2001, 0 | 0xdb8, ..] => false,
        // Global unicast is 2000::/3; all else is local, multicast or reserved.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let check = |public: bool, addresses: &[&str]| {
            for address in addresses {
                let parsed: IpAddr = address.parse().unwrap();
                assert_eq!(is_public(parsed), public, "{address}");
            }
        };
        check(
            true,
            &[
                "1.1.1.1",
                "93.184.216.34",
                "172.32.0.1",
                "2606:4700::1111",
                "::ffff:8.8.8.8",
            ],
        );
        check(true, &["64:ff9b::808:808", "2002:808:808::1"]);
        check(
            false,
            &[
                "127.0.0.1",
                "10.1.2.3",
                "172.16.0.1",
                "192.168.1.1",
                "169.254.169.254",
                "0.0.0.0",
            ],
        );
        check(
            false,
            &["100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "192.0.0.8"],
        );
        check(
            false,
            &[
                "::1",
                "::",
                "fe80::1",
                "fc00::1",
                "fd12::1",
                "ff02::1",
                "::ffff:127.0.0.1",
            ],
        );
        check(
            false,
            &["::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1", "fec0::1"],
        );
    }

    #[test]
    fn hosts_that_are_addresses_are_checked_in_every_notation() {
        let private = [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:8080/",
            "http://[::ffff:10.0.0.1]/",
        ];
        for url in private {
            assert!(check_host(&url.parse().unwrap()).is_err(), "{url}");
        }
        for url in ["http://8.8.8.8/", "https://example.com/", "http://[2606:4700::1111]/"] {
            assert!(check_host(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }
}
