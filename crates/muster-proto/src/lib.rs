//! Code generated from `proto/`: the public interface `muster.v1` and the one between nodes, `muster.peer.v1`.

/// The public interface.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

/// Between nodes; changes with the version.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod peer {
    tonic::include_proto!("muster.peer.v1");
}

/// Descriptors of both, encoded as a `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
