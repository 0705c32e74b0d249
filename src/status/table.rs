//! The nodes as a table for people.

use std::fmt::Write;

use super::{Hook, Node, State, Status, printable};

/// How many nodes are shown where not all are asked for.
pub const MAX_ROWS: usize = 20;

const HEADER: [&str; 7] = ["NODE", "FILE", "STATE", "VERSION", "AGE", "SIZE", "ERROR"];

/// How a table is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// All nodes, and not those first that are not live.
    pub all: bool,
    /// With colours, for a terminal.
    pub colours: bool,
}

/// A line for each node: those that are not live first, and then as many as there is room for,
/// unless all are asked for. Says how many are left out. Empty without nodes.
pub fn nodes(status: &Status, look: Look) -> String {
    let mut nodes: Vec<&Node> = status.nodes.iter().collect();
    if nodes.is_empty() {
        return String::new();
    }
    let mut n_left_out = 0;
    if !look.all {
        // A stable sort: the order of the configuration otherwise.
        nodes.sort_by_key(|node| node.is_live());
        n_left_out = nodes.len().saturating_sub(MAX_ROWS);
        nodes.truncate(MAX_ROWS);
    }
    let n_bad_left_out = {
        let shown = nodes.iter().filter(|node| !node.is_live()).count();
        status.nodes.iter().filter(|node| !node.is_live()).count() - shown
    };
    let rows: Vec<[String; 7]> = std::iter::once(HEADER.map(str::to_owned))
        .chain(nodes.iter().map(|node| row(node)))
        .collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    let mut text = String::new();
    let states = std::iter::once(None).chain(nodes.iter().map(|node| Some(node.state)));
    for (row, state) in rows.iter().zip(states) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padded = match HEADER[column] {
                "VERSION" | "AGE" | "SIZE" => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            };
            let colour = match (state, HEADER[column]) {
                (None, _) => Some("1"),
                (Some(state), "STATE") => Some(colour(state)),
                (Some(_), _) => None,
            };
            let padded = match colour.filter(|_| look.colours) {
                Some(colour) => format!("\x1b[{colour}m{padded}\x1b[0m"),
                None => padded,
            };
            let _ = write!(line, "{padded}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if n_left_out > 0 {
        let _ = writeln!(
            text,
            "and {n_left_out} more, {} (--all shows them)",
            match n_bad_left_out {
                0 => "all live".into(),
                n => format!("{n} of them not live"),
            }
        );
    }
    text
}

/// A line for each tree, and one for each of its first problems. Empty without trees.
pub fn trees(status: &Status) -> String {
    if status.trees.is_empty() {
        return String::new();
    }
    let header = [
        "TREE",
        "DIRECTORY",
        "FILES",
        "OLD",
        "UNREADABLE",
        "LEFT OUT",
    ]
    .map(str::to_owned);
    let rows = status.trees.iter().map(|tree| {
        [
            printable(&tree.name),
            printable(&tree.directory),
            tree.files.to_string(),
            tree.stale.to_string(),
            tree.unreadable.to_string(),
            tree.left_out.to_string(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(text, "{cell:width$}  "),
                5 => write!(text, "{cell:>width$}"),
                _ => write!(text, "{cell:>width$}  "),
            };
        }
        text.push('\n');
        let tree = at.checked_sub(1).map(|at| &status.trees[at]);
        let problems = tree
            .into_iter()
            .flat_map(|tree| tree.error.iter().chain(&tree.problems));
        for problem in problems {
            let _ = writeln!(text, "  {}", printable(problem));
        }
    }
    text
}

/// A line for each hook and each part that names it. Empty without hooks.
pub fn hooks(status: &Status, now: f64) -> String {
    if status.hooks.is_empty() {
        return String::new();
    }
    let header = [
        "HOOK", "OF", "STATE", "RUNS", "FAILED", "STARTED", "TOOK", "VERSION", "LAST",
    ];
    let or_dash = |text: Option<String>| text.unwrap_or("-".into());
    let row = |hook: &Hook| {
        let state = match (&*hook.running, hook.waits, hook.failures_in_a_row) {
            ([], false, 0) => "idle".to_owned(),
            ([], false, n) => format!("failed {n} times"),
            ([], true, _) => "waits".into(),
            ([pid], ..) => format!("runs, {pid}"),
            (pids, ..) => format!("{} run", pids.len()),
        };
        let ago = hook
            .started
            .map(|started| duration((now - started).max(0.0) as u64));
        let how = match (&hook.error, hook.code) {
            (Some(error), _) => printable(error),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => String::new(),
        };
        [
            printable(&hook.hook),
            printable(&hook.of),
            state,
            hook.runs.to_string(),
            hook.failures.to_string(),
            or_dash(ago.map(|ago| format!("{ago} ago"))),
            or_dash(hook.seconds.map(|seconds| format!("{seconds:.1}s"))),
            or_dash(hook.version.map(|version| version.to_string())),
            how,
        ]
    };
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(status.hooks.iter().map(row));
    let widths: [usize; 9] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate();
        let line: String = cells
            .map(|(column, (cell, width))| match column {
                3..=7 => format!("{cell:>width$}  "),
                _ => format!("{cell:width$}  "),
            })
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row(node: &Node) -> [String; 7] {
    let number = |number: Option<String>| number.unwrap_or("-".into());
    [
        printable(&node.name),
        printable(&node.file),
        node.state.as_str().into(),
        number(node.version.map(|version| version.to_string())),
        number(node.age.map(|age| duration(age as u64))),
        number(node.size.map(|size| size.to_string())),
        printable(node.error.as_deref().unwrap_or_default()),
    ]
}

/// By ECMA-48: green, yellow, red.
fn colour(state: State) -> &'static str {
    match state {
        State::Live => "32",
        State::Stale | State::Absent | State::Unknown => "33",
        State::Denied | State::Unreadable => "31",
    }
}

/// Seconds in the largest unit that is not too coarse.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        all: false,
        colours: false,
    };

    fn status(states: impl IntoIterator<Item = State>) -> Status {
        let node = |(n, state)| Node {
            name: format!("n{n}"),
            file: format!("dir/n{n}"),
            state,
            version: Some(n as i32),
            size: Some(5),
            age: Some(130.0),
            ..Node::default()
        };
        Status {
            nodes: states.into_iter().enumerate().map(node).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn a_few_nodes() {
        let mut status = status([State::Live, State::Denied]);
        status.nodes[1].error = Some("its ACL\nforbids it".into());
        (status.nodes[1].version, status.nodes[1].size) = (None, None);
        assert_eq!(
            nodes(&status, PLAIN),
            "NODE  FILE    STATE   VERSION  AGE  SIZE  ERROR\n\
             n1    dir/n1  denied        -   2m     -  its ACL\\nforbids it\n\
             n0    dir/n0  live          0   2m     5\n"
        );
        assert_eq!(nodes(&Status::default(), PLAIN), "");
    }

    #[test]
    fn of_many_nodes_those_are_shown_that_are_not_live() {
        let mut states = vec![State::Live; 1000];
        states[999] = State::Stale;
        let status = status(states);
        let short = nodes(&status, PLAIN);
        assert_eq!(short.lines().count(), 1 + MAX_ROWS + 1);
        assert!(short.lines().nth(1).unwrap().starts_with("n999 "));
        assert!(short.ends_with("and 980 more, all live (--all shows them)\n"));
        let all = Look { all: true, ..PLAIN };
        let all = nodes(&status, all);
        assert_eq!(all.lines().count(), 1001);
        assert!(all.lines().nth(1).unwrap().starts_with("n0 "));
    }

    #[test]
    fn it_says_how_many_are_left_out_that_are_not_live() {
        let text = nodes(&status([State::Absent; 50]), PLAIN);
        assert!(text.ends_with("and 30 more, 30 of them not live (--all shows them)\n"));
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let status = status([State::Live, State::Denied]);
        assert!(!nodes(&status, PLAIN).contains('\x1b'));
        let coloured = Look {
            colours: true,
            ..PLAIN
        };
        let text = nodes(&status, coloured);
        assert!(text.contains("\x1b[31mdenied\x1b[0m"));
        assert!(text.contains("\x1b[32mlive  \x1b[0m"));
    }
}
