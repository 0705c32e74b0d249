//! [`Source`](crate::source::Source) over a seeded model in memory.
