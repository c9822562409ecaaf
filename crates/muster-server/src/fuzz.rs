//! Targets for the fuzzer: `cluster.toml`. Whatever the text, a configuration whose values are in range, or an error.

use crate::ServerConfig;

/// A name, and what is to do no harm with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("server-config", config)];

fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = ServerConfig::parse(text) {
        // What is right is right for each of its nodes.
        for node in &config.nodes {
            assert!(config.node(node.id).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../../fuzz/replay.rs");

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let own = include_str!("../../../cluster.toml").as_bytes().to_vec();
        let all = br#"cluster = "c"
[raft]
heartbeat = "100ms"
election_min = "500ms"
election_max = "900ms"
log_keep_bytes = "256MiB"
log_keep = "1h"
[store]
log_tail = "48MiB"
cache = "64MiB"
flush_interval = "10s"
[[node]]
id = 1
api = "127.0.0.1:1"
peer = "[::1]:2"
metrics = "127.0.0.1:3"
data = "d"
"#;
        vec![("server-config", own), ("server-config", all.to_vec())]
    }
}
