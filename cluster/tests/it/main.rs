//! Tests of the cluster.

mod control_plane;
