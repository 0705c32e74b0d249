//! Reads a znode, shows the difference, and sets it if its version is still the one read.
