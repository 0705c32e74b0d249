//! The mount outlives its daemon: the real processes, killed at any moment and upgraded under load.

mod at_once;
pub mod kept;
mod restarts;
mod soak;
mod upgrades;
