//! A real control plane, nodes that are not there, and pods that are processes.

#![allow(dead_code, reason = "a kit: not every test needs every part")]

pub mod ask;
pub mod deployment;
pub mod faults;
pub mod kubelet;
pub mod plane;
pub mod pod;
pub mod relay;
pub mod wait;
