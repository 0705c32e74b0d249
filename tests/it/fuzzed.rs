//! What the targets of `fuzz/` do, with random bytes: bounded, and on any toolchain.

#[path = "../../fuzz/entries/config.rs"]
mod configs;
#[path = "../../fuzz/entries/tree.rs"]
mod trees;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::tree::twin;

/// Words that mean something, for bytes alone hardly ever meet one.
const WORDS: [&str; 24] = [
    "[live-data]",
    "[DEFAULT]",
    "[nodes.a]",
    "nodes.a.source",
    "trees.t.source",
    "trees.t.include",
    "hooks.h.command",
    "hooks.h.user",
    "nodes.a.hooks",
    "zookeeper.hosts",
    "zookeeper.timeout",
    "secrets.path",
    "mount.status_dir",
    "defaults.mode",
    "source",
    "dest",
    "owner",
    "unknown",
    " = ",
    ": ",
    "/a/b",
    "${A}",
    "\n",
    "\n  ",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => prop::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in text()) {
        configs::config(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_leave_the_tree_as_its_twin(bytes in vec(any::<u8>(), 0..600)) {
        trees::tree(&bytes);
    }
}
