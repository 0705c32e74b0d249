//! The manual pages and completions are what the command lines say. `make renew` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::file;

// The command lines belong to the binaries, which are no library: here they are compiled once more.
#[allow(dead_code)]
#[path = "../../../src/bin/livedata-fuse/cli.rs"]
mod fuse;
#[allow(dead_code)]
#[path = "../../../src/bin/livedata-writer/cli.rs"]
mod writer;

fn commands() -> [Command; 2] {
    [
        shown(&fuse::Cli::command()),
        shown(&writer::Arguments::command()),
    ]
}

/// The command without what is hidden, which completions would offer.
fn shown(command: &Command) -> Command {
    // Names that do not live as long as the program are a feature of clap that nobody else needs.
    let name = |name: &str| -> &'static str { name.to_owned().leak() };
    let text = |text: Option<&StyledStr>| text.cloned().unwrap_or_default();
    let mut new = Command::new(name(command.get_name()))
        .about(text(command.get_about()))
        .long_about(text(command.get_long_about()))
        .args(command.get_arguments().filter(|it| !it.is_hide_set()))
        .subcommand_required(command.is_subcommand_required_set())
        .disable_help_subcommand(true);
    if let Some(version) = command.get_version() {
        new = new.version(name(version));
    }
    if let Some(help) = command.get_after_help() {
        new = new.after_help(help.clone());
    }
    let subcommands = command.get_subcommands().filter(|it| !it.is_hide_set());
    new.subcommands(subcommands.map(shown).collect::<Vec<_>>())
}

#[test]
fn the_manual_pages_say_what_help_says() {
    let mut made = BTreeMap::new();
    for mut command in commands() {
        // It gives the subcommands their long names.
        command.build();
        for page in command.get_subcommands().chain([&command]) {
            let page =
                Man::new(page.clone()).source(concat!("livedata-fuse ", env!("CARGO_PKG_VERSION")));
            let mut text = Vec::new();
            page.render(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            made.insert(page.get_filename(), with_examples_as_they_are(&text));
        }
    }
    compare("dist/man", made);
}

/// Lines that begin with a space are not filled up with spaces between their words.
fn with_examples_as_they_are(page: &str) -> String {
    let mut text = String::new();
    let mut as_it_is = false;
    for line in page.lines() {
        if as_it_is != line.starts_with(' ') {
            as_it_is = !as_it_is;
            text += if as_it_is { ".nf\n" } else { ".fi\n" };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[test]
fn the_completions_know_every_option() {
    let made = tempfile::tempdir().unwrap();
    for mut command in commands() {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            clap_complete::generate_to(shell, &mut command, &name, made.path()).unwrap();
        }
    }
    compare("dist/completions", files(made.path()));
}

/// The files of a directory, by name. No line ends in blanks, as nowhere in the project.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap();
    let read = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| line.trim_end().to_owned() + "\n");
        (name, lines.collect())
    });
    read.collect()
}

/// The files in `directory` are these, and no others.
#[track_caller]
fn compare(directory: &str, made: BTreeMap<String, String>) {
    let there = file(directory);
    if std::env::var_os("LIVEDATA_BLESS").is_some() {
        if there.exists() {
            fs::remove_dir_all(&there).unwrap();
        }
        fs::create_dir_all(&there).unwrap();
        for (name, text) in &made {
            fs::write(there.join(name), text).unwrap();
        }
    }
    let renew = "make renew";
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    let found = files(&there);
    assert_eq!(names(&found), names(&made), "{directory}; renew: {renew}");
    for (name, text) in made {
        assert!(
            found[&name] == text,
            "{directory}/{name} is stale; renew: {renew}"
        );
    }
}
