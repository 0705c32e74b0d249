//! The commands as a user types them, and the life of a mount from its start to its end.

mod check;
mod dead;
mod mountpoint;
mod other_user;
mod start;
mod stop;
mod system;

use crate::support::place::Place;
use crate::support::zookeeper::Sandbox;

/// A place with the file `a.json` of the znode `/a`, which says `one`.
fn place(name: &str) -> (Sandbox, Place) {
    let sandbox = Sandbox::new(name);
    sandbox.admin.create("/a", "one");
    let place = Place::new(&config(&sandbox.hosts(), ""));
    (sandbox, place)
}

/// The node `a`, the log in a file beside the configuration, and `more`.
pub fn config(hosts: &str, more: &str) -> String {
    format!(
        "[live-data]\nzookeeper.hosts = {hosts}\nlog.file = log\n\
         nodes.a.source = /a\nnodes.a.dest = a.json\n{more}"
    )
}

/// A port of a server that takes connections and answers nothing, as long as the listener lives.
pub fn silent_server() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = listener.local_addr().unwrap().to_string();
    (listener, hosts)
}
