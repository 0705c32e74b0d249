//! A panic in any thread ends the server, so that a successor goes on at once: a mount of which one
//! thread is missing looks well and grows old.

use std::panic::{self, PanicHookInfo};

/// The exit code of a process that panicked, as Rust has it.
const PANICKED: i32 = 101;

/// Has every panic told, in one line, and then end the process. Those that are caught, and say so
/// by a hook set later, are left alone.
pub(super) fn end_process(tell: impl Fn(String) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        tell(words(panic));
        std::process::exit(PANICKED);
    }));
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name").to_owned();
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words");
    let what = what.lines().next().unwrap_or_default();
    match panic.location() {
        Some(at) => format!("the thread {name} panicked at {at}: {what}"),
        None => format!("the thread {name} panicked: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Makes this test binary the process that panics.
    const PANICS: &str = "LIVEDATA_TEST_PANICS";

    #[test]
    fn a_panic_in_a_thread_ends_the_process() {
        if std::env::var_os(PANICS).is_some() {
            end_process(|words| eprintln!("told: {words}"));
            let panics = thread::Builder::new().name("publish".into());
            panics.spawn(|| panic!("not\nlike this")).unwrap();
            thread::sleep(Duration::from_secs(60));
            unreachable!("the process goes on");
        }
        let test = "server::panics::tests::a_panic_in_a_thread_ends_the_process";
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(PANICKED));
        let said = String::from_utf8_lossy(&ended.stderr);
        let told: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("told: "))
            .collect();
        let [told] = told[..] else {
            panic!("{said}");
        };
        assert!(told.starts_with("told: the thread publish panicked at src/server/panics.rs:"));
        assert!(told.ends_with(": not"), "{told}");
    }
}
