//! `livedata-writer`: shows the difference between a file and a znode, and sets the znode.
fn main() {}
