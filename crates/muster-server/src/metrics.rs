//! The Prometheus endpoint.

use std::net::SocketAddr;

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::Error;

/// Serves `/metrics` on `address` for this process. Call on the runtime that is to serve it, once a process.
pub(crate) fn serve(node: u64, address: SocketAddr) -> Result<(), Error> {
    // Bound here first: the exporter binds in the background, where a port in use would go unnoticed.
    let refused = |reason: String| Error::Listen {
        node,
        key: "metrics",
        address: address.to_string(),
        reason,
    };
    drop(std::net::TcpListener::bind(address).map_err(|error| refused(crate::run::listen_reason(&error)))?);
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .map_err(|error| refused(error.to_string()))
}
