//! `livedata-fuse`: mount, umount, check.
fn main() {}
