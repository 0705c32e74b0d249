//! The Debian package, made of the programs under test and installed into a directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::file;
use crate::support::place::{Place, Ran, SOON, run};
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

/// The package, made once.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PACKAGE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_livedata-fuse"));
        let output = Command::new(file("dist/make-deb.sh"))
            .args([programs.parent().unwrap(), dir.path()])
            .output();
        let ran = Ran::from(output.unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let path = PathBuf::from(ran.stdout.trim_end());
        (dir, path)
    });
    path
}

/// Installs the package into `root` of the place, as often as one likes.
#[track_caller]
fn install(place: &Place) {
    for directory in ["updates", "info", "triggers"] {
        fs::create_dir_all(place.path("root/var/lib/dpkg").join(directory)).unwrap();
    }
    for empty in ["status", "available"] {
        let path = place.path("root/var/lib/dpkg").join(empty);
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
    }
    let mut command = place.command("dpkg");
    command
        .arg(format!("--root={}", place.path("root").display()))
        // The scripts run outside, knowing where it is.
        .args([
            "--force-depends",
            "--force-not-root",
            "--force-script-chrootless",
            "-i",
        ])
        .arg(package());
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn it_holds_everything() {
    let place = Place::new("");
    install(&place);
    let installed = |path: &str| place.path("root").join(path);
    for (path, mode) in [
        ("usr/bin/livedata-fuse", 0o755),
        ("usr/bin/livedata-writer", 0o755),
        ("lib/systemd/system/livedata-fuse@.service", 0o644),
        ("usr/lib/tmpfiles.d/livedata-fuse.conf", 0o644),
        ("usr/lib/sysusers.d/livedata-fuse.conf", 0o644),
        ("usr/share/man/man1/livedata-fuse.1.gz", 0o644),
        ("usr/share/man/man1/livedata-fuse-mount.1.gz", 0o644),
        ("usr/share/man/man1/livedata-writer.1.gz", 0o644),
        ("usr/share/bash-completion/completions/livedata-fuse", 0o644),
        (
            "usr/share/fish/vendor_completions.d/livedata-writer.fish",
            0o644,
        ),
        ("usr/share/zsh/vendor-completions/_livedata-fuse", 0o644),
        ("usr/share/doc/livedata-fuse/copyright", 0o644),
        ("usr/share/doc/livedata-fuse/examples/alerts.yml", 0o644),
        ("usr/share/doc/livedata-fuse/examples/live.ini", 0o644),
        ("etc/livedata/mount.d", 0o755),
    ] {
        let found = fs::metadata(installed(path)).expect(path);
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((found.uid(), found.gid()), (0, 0), "{path}");
    }
    let helper = fs::read_link(installed("usr/sbin/mount.fuse.livedata")).unwrap();
    assert_eq!(helper, Path::new("../bin/livedata-fuse"));
    // What it starts is there.
    let unit = fs::read_to_string(installed("lib/systemd/system/livedata-fuse@.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/livedata-fuse mount -f "));
    let completion = installed("usr/share/bash-completion/completions/livedata-fuse");
    assert_eq!(
        run(place.command("bash").arg("-n").arg(completion)).code,
        Some(0)
    );
    // The examples mean what they should.
    for example in ["live.ini", "mount.d/example.ini"] {
        let example = installed("usr/share/doc/livedata-fuse/examples").join(example);
        assert!(example.exists(), "{}", example.display());
    }
    let mut check = place.command(installed("usr/bin/livedata-fuse"));
    check.args([
        "check",
        "root/usr/share/doc/livedata-fuse/examples/live.ini",
    ]);
    let ran = run(&mut check);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for file in ["myapp/flags.json", "myapp/limits.json", "services"] {
        assert!(ran.stdout.contains(file), "{ran:?}");
    }
}

#[test]
fn the_programs_need_the_c_library_only() {
    let place = Place::new("");
    install(&place);
    for program in ["livedata-fuse", "livedata-writer"] {
        let mut command = place.command("objdump");
        let ran = run(command
            .arg("-p")
            .arg(place.path("root/usr/bin").join(program)));
        let needed = |line: &str| {
            line.trim()
                .strip_prefix("NEEDED")
                .map(|it| it.trim().to_owned())
        };
        let needed: Vec<_> = ran.stdout.lines().filter_map(needed).collect();
        assert!(needed.contains(&"libc.so.6".to_owned()), "{needed:?}");
        let known = |name: &String| {
            ["libc.", "libm.", "libgcc_s.", "ld-linux"]
                .iter()
                .any(|it| name.starts_with(it))
        };
        assert!(needed.iter().all(known), "{needed:?}");
    }
}

#[test]
fn what_is_installed_mounts_and_an_upgrade_is_not_noticed() {
    let sandbox = Sandbox::new("package");
    sandbox.admin.create("/a", "one");
    let place = Place::new(&crate::commands::config(&sandbox.hosts(), ""));
    install(&place);
    let installed = |path: &str| place.command(place.path("root").join(path));
    let ran = run(installed("usr/bin/livedata-fuse").args(["check", "--strict", "config.ini"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // As mount(8) calls it.
    let mut mount = installed("usr/sbin/mount.fuse.livedata");
    let ran = run(mount.args(["config.ini", "mnt", "-o", "rw,_netdev"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
    fs::write(place.path("new"), "two").unwrap();
    let ran = run(installed("usr/bin/livedata-writer").args(["config.ini", "new", "/a"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shows_two = || place.read("a.json").as_deref() == Some("two");
    wait_until(SOON, "the change", shows_two);

    let held = fs::File::open(place.root().join("a.json")).unwrap();
    let (keeper, old) = (place.daemon(), place.servers());
    install(&place);
    // What the postinst has systemd do.
    kill_process(keeper, Signal::USR2).unwrap();
    wait_until(SOON, "another server alone", || {
        let servers = place.servers();
        servers.len() == 1 && servers != old
    });
    assert!(shows_two());
    assert_eq!(std::io::read_to_string(&held).unwrap(), "two");
    assert_eq!(place.daemon(), keeper);
    drop(held);
    let ran = run(installed("usr/bin/livedata-fuse").args(["umount", "mnt"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.wait_until_gone();
}

#[test]
fn its_scripts_upgrade_what_runs_and_restart_nothing() {
    let place = Place::new("");
    for fake in ["systemctl", "systemd-tmpfiles", "systemd-sysusers"] {
        let script = "#!/bin/sh\necho \"${0##*/} $*\"\n";
        fs::create_dir_all(place.path("fake")).unwrap();
        fs::write(place.path("fake").join(fake), script).unwrap();
        fs::set_permissions(
            place.path("fake").join(fake),
            PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    }
    let scripts = file("dist/deb");
    let called = |script: &str| {
        // A machine that runs systemd.
        let ran = place.in_namespace(&format!(
            "mount -t tmpfs none /run; mkdir -p /run/systemd/system
             mount -t tmpfs none /var/lib
             PATH=$PWD/fake:$PATH {}/{script}",
            scripts.display()
        ));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{script}");
        ran.stdout
    };
    let made = "systemd-sysusers livedata-fuse.conf\n\
                systemd-tmpfiles --create livedata-fuse.conf\n\
                systemctl daemon-reload\n";
    assert_eq!(called("postinst configure"), made);
    let upgraded = "systemctl kill -s USR2 --kill-whom=main livedata-fuse@*.service\n";
    assert_eq!(
        called("postinst configure 0.0.9"),
        format!("{made}{upgraded}")
    );
    assert_eq!(called("prerm upgrade 0.2.0"), "");
    assert_eq!(
        called("prerm remove"),
        "systemctl stop livedata-fuse@*.service\n"
    );
    assert_eq!(called("postrm upgrade 0.2.0"), "systemctl daemon-reload\n");
    assert_eq!(called("postrm purge"), "systemctl daemon-reload\n");
}
