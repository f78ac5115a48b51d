//! Tells a service manager how far the run is: systemd's `sd_notify` protocol.
//!
//! A run under no service manager, or one whose manager does not listen, goes on without: nothing here is an error.
//! Source: `sd_notify(3)`.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long the last word may wait for a manager that is busy.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Where a service manager listens, if one does.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// The one of this process's environment.
    pub fn from_environment() -> Self {
        Self::to(std::env::var_os(VARIABLE).as_deref())
    }

    /// The one at this address: a path, or a name in the abstract name space behind an `@`.
    fn to(address: Option<&OsStr>) -> Self {
        let address = address.and_then(|address| match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(address).ok(),
            _ => None, // vsock and whatever comes after it
        });
        Self(address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold up the run.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        }))
    }

    /// What the run is doing, for `systemctl status`; it may take this much longer until the next word.
    pub fn status(&self, text: &str, patience: Duration) {
        let text = text.replace('\n', " ");
        let patience = patience.as_micros();
        self.send(&format!("STATUS={text}\nEXTEND_TIMEOUT_USEC={patience}"));
    }

    /// The run did what it was to do. A unit of `Type=notify` counts as started from here on, so that what is ordered
    /// after it finds the work done.
    pub fn done(&self, text: &str) {
        self.send_surely(&format!("READY=1\nSTATUS={}", text.replace('\n', " ")));
    }

    /// The run ends without having done it.
    pub fn stopping(&self, text: &str) {
        self.send_surely(&format!("STOPPING=1\nSTATUS={}", text.replace('\n', " ")));
    }

    /// A word on the way may get lost when the manager is slow, the last one should not.
    fn send_surely(&self, message: &str) {
        if let Some((socket, _)) = &self.0
            && socket.set_write_timeout(Some(LAST_WORD)).is_ok()
        {
            // A socket that stays as it is sends without waiting.
            let _ = socket.set_nonblocking(false);
        }
        self.send(message);
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            log::trace!("{VARIABLE}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_with_a_path_gets_each_message() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(Some(path.as_os_str()));
        notifier.status("writing\ndata", Duration::from_secs(2));
        assert_eq!(
            received(&socket),
            "STATUS=writing data\nEXTEND_TIMEOUT_USEC=2000000"
        );
        notifier.done("converted");
        assert_eq!(received(&socket), "READY=1\nSTATUS=converted");
        notifier.stopping("failed");
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=failed");
    }

    #[test]
    fn an_abstract_socket_gets_messages() {
        let name = format!("aufs2dm-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(Some(OsStr::new(&format!("@{name}")))).done("x");
        assert_eq!(received(&socket), "READY=1\nSTATUS=x");
    }

    #[test]
    fn nobody_who_listens_is_no_error() {
        let temp = tempfile::tempdir().unwrap();
        let gone = temp.path().join("gone");
        let long = "/x".repeat(200);
        for address in [
            None,
            Some(gone.as_os_str()),
            Some(OsStr::new("")),
            Some(OsStr::new("vsock:2:3")),
            Some(OsStr::new(&long)),
        ] {
            Notifier::to(address).done("x");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(Some(path.as_os_str()));
        for _ in 0..10_000 {
            notifier.status("x", Duration::ZERO);
        }
    }
}
