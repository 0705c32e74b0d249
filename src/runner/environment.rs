//! What a command is told: by its environment, and on its stdin.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::MemfdFlags;
use serde_json::json;

use super::command;
use crate::hooks::agenda::Run;
use crate::hooks::{Event, Kind, Shows};

/// The longest list of files in the environment, in bytes; one variable takes at most 128 KiB
/// (MAX_ARG_STRLEN of Linux).
const MAX_FILES: usize = 64 << 10;

/// The variables that begin with `LIVEDATA_`. `shows` is what the content on stdin is of.
pub(super) fn variables(
    mountpoint: &Path,
    run: &Run,
    shows: Option<&Shows>,
) -> Vec<(&'static str, String)> {
    let path = |file: &str| path(mountpoint, run, file);
    let mut variables = vec![
        ("LIVEDATA_NAME", run.part.id.name.to_string()),
        ("LIVEDATA_ZNODE", run.part.znode.clone()),
        ("LIVEDATA_FILE", path("")),
        ("LIVEDATA_EVENT", run.event.as_str().to_owned()),
    ];
    let told = match (shows, run.part.id.kind, &*run.files) {
        (Some(Shows::Content { version, mzxid, .. }), ..) => Some((*version, *mzxid)),
        (_, Kind::Node, [file]) => file.version,
        (_, Kind::Tree, files) => {
            // The last transaction that any of them shows.
            let mzxid = files.iter().filter_map(|file| Some(file.version?.1)).max();
            if let Some(mzxid) = mzxid {
                variables.push(("LIVEDATA_MZXID", mzxid.to_string()));
            }
            None
        }
        _ => None,
    };
    if let Some((version, mzxid)) = told.filter(|_| run.event != Event::Deleted) {
        variables.push(("LIVEDATA_VERSION", version.to_string()));
        variables.push(("LIVEDATA_MZXID", mzxid.to_string()));
    }
    if run.part.id.kind == Kind::Tree {
        let mut list = String::new();
        for happened in &run.files {
            let file = path(&happened.file);
            if list.len() + file.len() + 1 > MAX_FILES {
                break;
            }
            let _ = writeln!(list, "{file}");
        }
        list.truncate(list.trim_end_matches('\n').len());
        variables.push(("LIVEDATA_FILES", list));
        variables.push(("LIVEDATA_N_FILES", run.files.len().to_string()));
    }
    variables
}

/// Where a file of a part is found.
fn path(mountpoint: &Path, run: &Run, file: &str) -> String {
    let dest = mountpoint.join(&run.part.dest);
    format!("{}{file}", dest.display())
}

/// What happened to each file, as JSON lines to be read.
pub(super) fn events(mountpoint: &Path, run: &Run) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("livedata-events", MemfdFlags::CLOEXEC)?;
    let mut file = io::BufWriter::new(File::from(memory));
    for happened in &run.files {
        let line = json!({
            "file": path(mountpoint, run, &happened.file),
            "znode": happened.znode,
            "event": happened.event.as_str(),
            "version": happened.version.map(|(version, _)| version),
            "mzxid": happened.version.map(|(_, mzxid)| mzxid),
        });
        writeln!(file, "{line}")?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    command::reopened(&file.into())
}
