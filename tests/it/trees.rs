//! Subtrees of ZooKeeper as directories: real mounts, a real server. What a mount shows is compared
//! with what ZooKeeper has, read by another client.

mod limits;
mod live;
mod outages;
mod overlaps;
mod random;
mod reload;
mod servers;
mod shape;
mod takeover;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::shown::SOON;

/// What stands at a path and below it: the content of files, none for directories. By the rest of
/// the path, which is empty for the path itself.
type Listing = BTreeMap<String, Option<Vec<u8>>>;

/// A listing, as a test writes it.
fn listing(entries: &[(&str, Option<&str>)]) -> Listing {
    let entries = entries.iter();
    entries
        .map(|(name, content)| {
            let content = content.map(|content| content.as_bytes().to_vec());
            ((*name).to_owned(), content)
        })
        .collect()
}

/// What the mount has. An error of what is gone is one of looking while it changes.
fn shown(path: &Path) -> io::Result<Listing> {
    let mut listing = Listing::new();
    match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        _ => look(path, String::new(), &mut listing)?,
    }
    Ok(listing)
}

fn look(path: &Path, name: String, listing: &mut Listing) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let below = format!("{name}/{}", entry.file_name().to_str().unwrap());
            look(&entry.path(), below, listing)?;
        }
        listing.insert(name, None);
    } else {
        listing.insert(name, Some(fs::read(path)?));
    }
    Ok(())
}

/// What a tree without patterns has to show of a znode and what is below it, by ZooKeeper.
fn truth(admin: &Admin, root: &str, depth: Option<usize>) -> Listing {
    let mut listing = Listing::new();
    tell(admin, root, "", depth, &mut listing);
    listing
}

fn tell(admin: &Admin, path: &str, name: &str, depth: Option<usize>, listing: &mut Listing) {
    let Some((content, stat)) = admin.get(path) else {
        return;
    };
    if stat.num_children == 0 {
        listing.insert(name.into(), Some(content));
        return;
    }
    listing.insert(name.into(), None);
    listing.insert(format!("{name}/_data_"), Some(content));
    if depth == Some(0) {
        return;
    }
    for child in admin.children(path).unwrap() {
        let name = format!("{name}/{child}");
        let depth = depth.map(|depth| depth - 1);
        tell(admin, &format!("{path}/{child}"), &name, depth, listing);
    }
}

/// Waits until the mount shows this at `dest`.
#[track_caller]
fn wait_for_listing(mount: &Mount, dest: &str, expected: &Listing) {
    let start = Instant::now();
    loop {
        let shown = shown(&mount.path(dest));
        if shown.as_ref().is_ok_and(|shown| shown == expected) {
            return;
        }
        if start.elapsed() > SOON {
            let shown = shown.unwrap();
            let differing = shown.keys().chain(expected.keys());
            let differing = differing.filter(|name| shown.get(*name) != expected.get(*name));
            let differing: BTreeMap<_, _> = differing
                .map(|name| (name, [short(&shown, name), short(expected, name)]))
                .collect();
            panic!("{dest} differs, shown and expected: {differing:#?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
}

fn short(listing: &Listing, name: &str) -> String {
    match listing.get(name) {
        None => "nothing".into(),
        Some(None) => "a directory".into(),
        Some(Some(content)) => {
            let text = String::from_utf8_lossy(&content[..content.len().min(40)]);
            format!("{} bytes {text:?}", content.len())
        }
    }
}

/// Waits until the mount equals ZooKeeper, which is quiet.
#[track_caller]
fn wait_for_truth(mount: &Mount, dest: &str, admin: &Admin, root: &str) {
    wait_for_listing(mount, dest, &truth(admin, root, None));
}
