//! Words and flags of other programs, and what to type here instead.

/// Returns the tip for a word that is a command elsewhere.
pub(super) fn for_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "list" | "ls" | "whoami" | "who" | "show" | "accounts" | "sessions" => {
            "show the stored sign-ins: mcp-remote status"
        }
        "doctor" | "check" | "test" | "diagnose" | "diagnostics" | "inspect" | "ping" | "tools" | "debug" => {
            "test the connection: mcp-remote client https://example.com/mcp"
        }
        "call" | "read" => "add the server URL: mcp-remote client https://example.com/mcp call TOOL KEY=VALUE",
        "auth" | "authenticate" | "authorize" | "signin" | "sign-in" => {
            "sign in: mcp-remote login https://example.com/mcp"
        }
        "signout" | "sign-out" | "revoke" | "forget" | "reset" | "clear" => {
            "remove a stored sign-in: mcp-remote logout https://example.com/mcp"
        }
        "log" | "logs" => "find out where your host keeps its logs: mcp-remote help hosts",
        "run" | "start" | "serve" | "server" | "proxy" | "connect" => {
            "give the server URL without a command: mcp-remote https://example.com/mcp"
        }
        "add" | "config" | "configure" | "init" | "setup" => {
            "add a server to the hosts on this computer: mcp-remote install https://example.com/mcp"
        }
        "remove" | "rm" | "delete" => "remove an entry from the hosts: mcp-remote uninstall NAME",
        "revert" | "rollback" | "restore" => "undo the last change of the hosts: mcp-remote undo",
        _ => return None,
    })
}

/// Returns for a flag that exists elsewhere the reason why it does not exist here, or nothing, and the tip. `client` says
/// that the command is the one that tests a connection.
pub(super) fn for_flag(flag: &str, client: bool) -> Option<(&'static str, &'static str)> {
    const TIMEOUTS: &str = "some similar arguments exist: '--connect-timeout', '--headers-timeout', '--body-timeout', \
                            '--initialize-timeout', '--auth-timeout'";
    Some(match flag {
        "-k"
        | "--insecure"
        | "--no-verify"
        | "--no-verify-ssl"
        | "--no-check-certificate"
        | "--skip-verify"
        | "--insecure-skip-verify"
        | "--skip-tls-verify"
        | "--tls-skip-verify"
        | "--no-ssl-verify"
        | "--no-tls-verify"
        | "--allow-insecure"
        | "--ignore-certificate-errors" => (
            ": certificate checks cannot be turned off",
            "trust the server's certificate or its issuer: --ca-cert FILE",
        ),
        "--timeout" | "--timeouts" | "--request-timeout" | "--read-timeout" | "--max-time" | "-m" => ("", TIMEOUTS),
        "-H" | "--headers" => ("", "a similar argument exists: '--header'"),
        "--token" | "--api-key" | "--apikey" | "--bearer" | "--bearer-token" | "--access-token" | "--auth" => {
            ("", "send the key in a header: --header \"Authorization:Bearer ${KEY}\"")
        }
        "--client-id" | "--client-secret" | "--oauth-client-id" | "--oauth-client-secret" => {
            ("", "give the OAuth client in a file: --static-oauth-client-info @FILE")
        }
        "--scope" | "--scopes" => ("", "request scopes with: --static-oauth-client-metadata '{\"scope\":\"NAME\"}'"),
        "-p" | "--port" | "--callback-port" => {
            ("", "write the callback port after the server URL: mcp-remote https://example.com/mcp 3334")
        }
        "--url" | "--server" | "--server-url" | "--endpoint" => {
            ("", "write the server URL without a flag: mcp-remote https://example.com/mcp")
        }
        "--cert" | "--key" => ("", "some similar arguments exist: '--client-cert', '--client-key'"),
        "--cacert" | "--ca" | "--ca-file" | "--ca-bundle" => ("", "a similar argument exists: '--ca-cert'"),
        "-v" if client => ("", "some similar arguments exist: '--verbose', '--version'"),
        "-v" | "--verbose" if !client => ("", "some similar arguments exist: '--debug', '--version'"),
        "-q" | "--quiet" => ("", "a similar argument exists: '--silent'"),
        "-x" => ("", "a similar argument exists: '--proxy'"),
        "-4" => ("", "a similar argument exists: '--ipv4'"),
        "-e" | "--env" => ("", "set environment variables in the \"env\" of the host's entry"),
        _ => return None,
    })
}
