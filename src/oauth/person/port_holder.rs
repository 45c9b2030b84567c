//! Which program holds a port of this computer, as Linux tells in /proc (proc_pid_net(5), proc_pid_fd(5)); elsewhere
//! that takes rights or programs that may be missing.
//!
//! # Invariants
//!
//! - A holder that cannot be found out fails no sign-in.

#[cfg(target_os = "linux")]
pub(crate) use linux::of;

/// Cannot be told here.
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

    /// Returns who listens at a port, with its pid, if the process may be inspected.
    pub(crate) fn of(port: u16) -> Option<String> {
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .flat_map(|table| listeners(&fs::read_to_string(table).unwrap_or_default(), port))
            .map(|inode| format!("socket:[{inode}]"))
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

    /// The inodes of the sockets that listen at a port.
    fn listeners(table: &str, port: u16) -> Vec<String> {
        let end = format!(":{port:04X}");
        let listens = |line: &str| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
            (local.ends_with(&end) && state == LISTENING).then(|| inode.to_owned())
        };
        table.lines().filter_map(listens).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn holder_is_found_at_taken_port_only() {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let Ok(listener) = std::net::TcpListener::bind(address) else { continue }; // without IPv6
                let port = listener.local_addr().unwrap().port();
                let holder = of(port).unwrap();
                assert!(holder.starts_with(&format!("process {} (", std::process::id())), "{holder}");
                drop(listener);
                assert_eq!(of(port), None);
            }
        }
    }
}
