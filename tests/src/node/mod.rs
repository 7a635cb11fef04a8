//! A real Kubernetes node: kubelet and containerd on this machine, in a network namespace and a cgroup of their own.

mod image;
mod tar;

pub use image::Image;
