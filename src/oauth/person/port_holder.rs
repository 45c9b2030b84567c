//! The program that uses a port of this computer, from /proc on Linux (proc_pid_net(5), proc_pid_fd(5)). Other systems
//! require permissions or programs that may be missing.
//!
//! # Invariants
//!
//! - An unknown holder fails no sign-in.

#[cfg(target_os = "linux")]
pub(crate) use linux::{may_be_ours, of};

/// Returns true, because the user of the holder is unknown on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn may_be_ours(_port: u16) -> bool {
    true
}

/// Returns nothing, because the holder is unknown on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_port: u16) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use crate::text::one_line;

    /// `TCP_LISTEN` of the kernel's include/net/tcp_states.h.
    const LISTENING: &str = "0A";

    /// Returns the process that listens on a port, with its PID, if this process may inspect it.
    pub(crate) fn of(port: u16) -> Option<String> {
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .flat_map(|table| listeners(&fs::read_to_string(table).unwrap_or_default(), port))
            .map(|Listener { inode, .. }| format!("socket:[{inode}]"))
            .collect();
        if inodes.is_empty() {
            return None;
        }
        let has_one = |pid: &u32| {
            let Ok(handles) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
            let mut targets = handles.flatten().filter_map(|handle| fs::read_link(handle.path()).ok());
            targets.any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        };
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let pid = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(has_one)?;
        let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("process {pid} ({})", one_line(&name)))
    }

    /// Returns whether each program that listens on a port belongs to this user, as far as /proc shows. A program of
    /// another user can claim to be an instance of mcp-remote.
    pub(crate) fn may_be_ours(port: u16) -> bool {
        let user = rustix::process::geteuid().as_raw();
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        tables.iter().flat_map(|table| listeners(table, port)).all(|listener| is_of(&listener, user))
    }

    /// A listening socket.
    #[derive(Debug, PartialEq, Eq)]
    struct Listener {
        user: Option<u32>,
        inode: String,
    }

    fn is_of(listener: &Listener, user: u32) -> bool {
        listener.user == Some(user)
    }

    fn listeners(table: &str, port: u16) -> Vec<Listener> {
        let end = format!(":{port:04X}");
        let listens = |line: &str| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, local, _, state, _, _, _, user, _, inode, ..] = fields[..] else { return None };
            let listener = Listener { user: user.parse().ok(), inode: inode.to_owned() };
            (local.ends_with(&end) && state == LISTENING).then_some(listener)
        };
        table.lines().filter_map(listens).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn listener_of_another_user_is_not_ours() {
            let table =
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0D07 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 41410 1 0 100 0 0 10 0
   1: 0100007F:0D07 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1002        0 41411 1 0 20 4 30 10 -1";
            let listener = Listener { user: Some(1001), inode: "41410".to_owned() };
            assert_eq!(listeners(table, 3335), [listener]);
            assert!(is_of(&listeners(table, 3335)[0], 1001) && !is_of(&listeners(table, 3335)[0], 1000));
        }

        #[test]
        fn holder_is_found_at_taken_port_only() {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let Ok(listener) = std::net::TcpListener::bind(address) else { continue }; // without IPv6
                let port = listener.local_addr().unwrap().port();
                let holder = of(port).unwrap();
                assert!(holder.starts_with(&format!("process {} (", std::process::id())), "{holder}");
                assert!(may_be_ours(port));
                drop(listener);
                assert_eq!(of(port), None);
            }
        }
    }
}
