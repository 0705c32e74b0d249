//! Certificates made by the `openssl` command.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A CA, and a directory with what it signed. Gone with this value.
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// Makes `ca.pem`, for a CA that has a name of its own.
    #[track_caller]
    pub fn new() -> Self {
        static N_AUTHORITIES: AtomicUsize = AtomicUsize::new(0);
        let n = N_AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let authority = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -keyout ca.key -out ca.pem -subj /CN=ca{n}"
        ));
        authority
    }

    /// A file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in the directory, for a configuration.
    pub fn name(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// Makes `{name}.pem` and `{name}.key` for the subject alternative names `for_whom`, and
    /// `{name}.both`, as the servers want it. They expire after so many days, or a day ago (-1).
    #[track_caller]
    pub fn sign(&self, name: &str, for_whom: &str, days: i32) {
        let names = self.file("names");
        fs::write(names, format!("subjectAltName={for_whom}\n")).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -keyout {name}.key -out request -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
             -extfile names -out {name}.pem"
        ));
        let read = |suffix| fs::read_to_string(self.file(&format!("{name}.{suffix}"))).unwrap();
        fs::write(
            self.file(&format!("{name}.both")),
            read("pem") + &read("key"),
        )
        .unwrap();
    }

    #[track_caller]
    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "openssl {arguments}: {done:?}");
    }
}
