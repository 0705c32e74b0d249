//! Credentials by name, from the secrets that Baseplate's sidecar or a CSI volume writes.
//!
//! No error and no `Debug` here shows a value: not even where it is no JSON, no base64, or no text.
//!
//! Files that others can read are read all the same, as Baseplate does, with a warning.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use parking_lot::Mutex;
use serde_json::Value;
use thiserror::Error;

use super::dropin_dir::Content;

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// A file for [`Provider::Vault`], a directory for [`Provider::VaultCsi`].
    pub path: PathBuf,
    /// How they are stored there.
    pub provider: Provider,
}

/// How secrets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// One JSON file: `{"secrets": {"NAME": {"type": "simple", "value": ..., "encoding": ...}}}`.
    Vault,
    /// A directory with one file `..data/NAME` for each secret: `{"data": {"type": ...}}`.
    VaultCsi,
}

/// Why there are no credentials. The values themselves are never in it.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// A file cannot be read.
    #[error("cannot read the secrets file {}; secrets.path names it", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It can be read, but does not hold what it should.
    #[error("{}: {message}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong, in Baseplate's words where it has some.
        message: String,
    },
}

/// What was warned of already: each content of a file that others can reach, once.
#[derive(Debug, Default)]
pub struct Warned(Mutex<HashMap<PathBuf, Content>>);

impl Warned {
    /// The warning of a file that is open, unless it was given before.
    fn warning(&self, file: &Path, found: &Metadata) -> Option<String> {
        let mode = found.mode() & 0o7777;
        let mut warned = self.0.lock();
        if mode & 0o006 == 0 || !others_get_to(file) {
            // Should it be opened to others again, that is news.
            warned.remove(file);
            return None;
        }
        let content = Content::of(found);
        let is_news = warned.insert(file.into(), content) != Some(content);
        is_news.then(|| {
            let can = if mode & 0o002 == 0 { "read" } else { "write" };
            format!(
                "everybody on this host can {can} the secrets file {} (mode {mode:04o}); chmod o-rwx it",
                file.display()
            )
        })
    }
}

/// Whether everybody may pass through the directories that lead to a file.
fn others_get_to(file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else {
        return true;
    };
    let closed = |directory: &Path| {
        directory
            .metadata()
            .is_ok_and(|found| found.mode() & 1 == 0)
    };
    !file.ancestors().skip(1).any(closed)
}

/// The `user:password` values of the secrets `names`, in their order. Touches no file if there are
/// none. Warns of files that others can reach, unless that is `warned` of already.
pub fn read(
    secrets: &Secrets,
    names: &[String],
    warned: &Warned,
) -> Result<Vec<Vec<u8>>, SecretsError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let json = |file: &Path| json(file, warned);
    match secrets.provider {
        Provider::Vault => {
            let file = &secrets.path;
            let document = json(file)?;
            let all = document.get("secrets").and_then(Value::as_object);
            let all = all.ok_or_else(|| wrong(file, "there is no object \"secrets\" in it"))?;
            names
                .iter()
                .map(|name| {
                    let secret = all.get(name).ok_or_else(|| not_found(file, name))?;
                    credential(file, name, secret)
                })
                .collect()
        }
        Provider::VaultCsi => names
            .iter()
            .map(|name| {
                let relative = Path::new(name);
                let plain = |part| matches!(part, Component::Normal(_));
                if !relative.components().all(plain) {
                    return Err(not_found(&secrets.path, name));
                }
                let file = secrets.path.join("..data").join(relative);
                let document = match json(&file) {
                    Err(SecretsError::Read { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        return Err(not_found(&file, name));
                    }
                    document => document?,
                };
                let secret = document
                    .get("data")
                    .ok_or_else(|| wrong(&file, "there is no object \"data\" in it"))?;
                credential(&file, name, secret)
            })
            .collect(),
    }
}

/// The value of one secret, decoded, if it can be a credential.
fn credential(file: &Path, name: &str, secret: &Value) -> Result<Vec<u8>, SecretsError> {
    let text = |key| secret.get(key).and_then(Value::as_str);
    let wrong = |message: &str| wrong(file, &format!("{name}: {message}"));
    if text("type") != Some("simple") {
        return Err(wrong("secret does not have type=simple"));
    }
    let value = text("value").ok_or_else(|| wrong("secret does not have value"))?;
    let bytes = match secret.get("encoding").map(Value::as_str) {
        None | Some(Some("identity")) => value.as_bytes().to_vec(),
        Some(Some("base64")) => base64_as_python(value)
            .ok_or_else(|| wrong("secret is not base64, as its encoding says"))?,
        Some(Some(other)) => return Err(wrong(&format!("unknown encoding: '{other}'"))),
        Some(None) => return Err(wrong("unknown encoding; write \"identity\" or \"base64\"")),
    };
    if !bytes.contains(&b':') {
        return Err(wrong(
            "secret is no credential; its value must be user:password",
        ));
    }
    Ok(bytes)
}

/// Python's `b64decode`: characters that are not of the alphabet, such as line ends, are skipped.
fn base64_as_python(text: &str) -> Option<Vec<u8>> {
    let kept: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))
        .collect();
    base64::engine::general_purpose::STANDARD.decode(kept).ok()
}

fn json(file: &Path, warned: &Warned) -> Result<Value, SecretsError> {
    let read = || {
        let mut opened = File::open(file)?;
        if let Some(warning) = warned.warning(file, &opened.metadata()?) {
            log::warn!("{warning}");
        }
        let mut bytes = Vec::new();
        opened.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| SecretsError::Read {
        file: file.into(),
        source,
    })?;
    // The place only: serde_json may quote what it found.
    serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        wrong(file, &format!("not JSON at line {line}, column {column}"))
    })
}

fn not_found(file: &Path, name: &str) -> SecretsError {
    wrong(file, &format!("secret not found: '{name}'"))
}

fn wrong(file: &Path, message: &str) -> SecretsError {
    SecretsError::Content {
        file: file.into(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Reads the secret `s` of `provider` from `content`; the file's directory is cut from errors.
    fn one(provider: Provider, content: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = match provider {
            Provider::Vault => (directory.path().join("f"), directory.path().join("f")),
            Provider::VaultCsi => (directory.path().into(), directory.path().join("..data/s")),
        };
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        read(
            &Secrets { path, provider },
            &["s".into()],
            &Warned::default(),
        )
        .map(|values| String::from_utf8(values.concat()).unwrap())
        .map_err(|error| {
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
            let place = format!("{}/", directory.path().display());
            error.to_string().replace(&place, "")
        })
    }

    #[test]
    fn values_and_messages() {
        for (secret, expected) in [
            (
                r#"{"type": "simple", "value": "u:hunter", "encoding": "identity"}"#,
                Ok("u:hunter"),
            ),
            (r#"{"type": "simple", "value": "u:hunter"}"#, Ok("u:hunter")),
            (
                r#"{"type": "simple", "value": "dTpodW\n50ZXI=", "encoding": "base64"}"#,
                Ok("u:hunter"),
            ),
            (
                r#"{"type": "simple", "value": "hunter=:", "encoding": "base64"}"#,
                Err("s: secret is not base64, as its encoding says"),
            ),
            (
                r#"{"type": "simple", "value": "u:hunter", "encoding": "hex"}"#,
                Err("s: unknown encoding: 'hex'"),
            ),
            (
                r#"{"type": "simple", "value": "u:hunter", "encoding": 5}"#,
                Err("s: unknown encoding; write \"identity\" or \"base64\""),
            ),
            (
                r#"{"type": "versioned", "current": "u:hunter"}"#,
                Err("s: secret does not have type=simple"),
            ),
            (r#""u:hunter""#, Err("s: secret does not have type=simple")),
            (
                r#"{"type": "simple"}"#,
                Err("s: secret does not have value"),
            ),
            (
                r#"{"type": "simple", "value": 5}"#,
                Err("s: secret does not have value"),
            ),
            (
                r#"{"type": "simple", "value": "hunter"}"#,
                Err("s: secret is no credential; its value must be user:password"),
            ),
        ] {
            let vault = one(
                Provider::Vault,
                &format!(r#"{{"secrets": {{"s": {secret}}}}}"#),
            );
            let csi = one(Provider::VaultCsi, &format!(r#"{{"data": {secret}}}"#));
            let expect = |file| {
                expected
                    .map(str::to_owned)
                    .map_err(|message| format!("{file}: {message}"))
            };
            assert_eq!(vault, expect("f"), "{secret}");
            assert_eq!(csi, expect("..data/s"), "{secret}");
        }
    }

    #[test]
    fn files_that_hold_no_secrets() {
        for (content, expected) in [
            (r#"{"secrets": {"t": 1}}"#, "f: secret not found: 's'"),
            (
                r#"{"secrets": ["hunter"]}"#,
                "f: there is no object \"secrets\" in it",
            ),
            ("hunter", "f: not JSON at line 1, column 1"),
            ("", "f: not JSON at line 1, column 0"),
        ] {
            assert_eq!(
                one(Provider::Vault, content),
                Err(expected.into()),
                "{content}"
            );
        }
        assert_eq!(
            one(Provider::VaultCsi, "{}"),
            Err("..data/s: there is no object \"data\" in it".into())
        );
    }

    #[test]
    fn files_that_are_not_there() {
        let mut secrets = Secrets {
            path: "/nowhere/at/all".into(),
            provider: Provider::Vault,
        };
        let warned = Warned::default();
        assert_eq!(read(&secrets, &[], &warned).unwrap(), Vec::<Vec<u8>>::new());
        let message = |secrets: &Secrets, name: &str| {
            let read = read(secrets, &[name.to_owned()], &warned);
            read.unwrap_err().to_string()
        };
        assert_eq!(
            message(&secrets, "s"),
            "cannot read the secrets file /nowhere/at/all; secrets.path names it"
        );
        secrets.provider = Provider::VaultCsi;
        assert_eq!(
            message(&secrets, "s"),
            "/nowhere/at/all/..data/s: secret not found: 's'"
        );
        assert_eq!(
            message(&secrets, "../s"),
            "/nowhere/at/all: secret not found: '../s'"
        );
    }

    #[test]
    fn each_content_that_others_can_read_is_warned_of_once() {
        let directory = tempfile::tempdir().unwrap();
        let (file, warned) = (directory.path().join("f"), Warned::default());
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let warning = || {
            let warning = warned.warning(&file, &file.metadata().unwrap());
            warning.map(|warning| warning.replace(file.to_str().unwrap(), "F"))
        };
        chmod(directory.path(), 0o755);
        std::fs::write(&file, "1").unwrap();
        chmod(&file, 0o440);
        assert_eq!(warning(), None);
        chmod(&file, 0o644);
        let expected =
            "everybody on this host can read the secrets file F (mode 0644); chmod o-rwx it";
        assert_eq!(warning().unwrap(), expected);
        assert_eq!(warning(), None, "said before");
        std::fs::write(&file, "22").unwrap();
        assert_eq!(warning().unwrap(), expected, "another content");
        chmod(&file, 0o600);
        assert_eq!(warning(), None);
        chmod(&file, 0o602);
        assert!(warning().unwrap().contains("can write"), "opened again");
        chmod(&file, 0o644);
        chmod(directory.path(), 0o700);
        assert_eq!(warning(), None, "nobody gets there");
    }
}
