//! Whether the server is reachable: the proxy, DNS, TCP to each address, the certificate. These checks use connections of
//! their own and send no data.
//!
//! # Invariants
//!
//! - This module does not say what a failure means: the real connection meets the same failure, and reports it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, time::timeout};

use super::{
    handshake::{self, Presented},
    printer::{DiagnosisStep, Finding, Printer},
};
use crate::{
    config::{Config, ProxyChoice},
    network::{certificate::CertificateInfo, lookup::lookup, proxy},
    text,
};

/// How far the server was reached.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// Where it ended; the connection's report is about this step.
    pub(super) failed_at: Option<DiagnosisStep>,
    /// The certificate, which is not verified yet.
    pub(super) certificate: Option<Finding>,
}

/// Tries each step, and prints what is found.
pub(super) async fn check(config: &Config, printer: &mut Printer<'_>) -> io::Result<Reached> {
    let (url, network) = (config.server.url(), &*config.network);
    let mut host = bare(url.host_str().unwrap_or_default());
    let mut port = url.port_or_known_default().unwrap_or_default();
    let through = proxy::to(url, &network.proxy);
    match &through {
        Some(proxy) => {
            let scheme = proxy.uri().scheme_str().unwrap_or("http");
            (host, port) = proxy::host_and_port(proxy);
            let whose = if matches!(network.proxy, ProxyChoice::System) {
                " (from the operating system's settings)"
            } else {
                ""
            };
            printer.print(Finding::ok(DiagnosisStep::Proxy, format!("{scheme}://{host}:{port}{whose}")))?;
        }
        None => printer.print(Finding::skip(DiagnosisStep::Proxy, "none for this server"))?,
    }
    let failed = |step| Reached { failed_at: Some(step), certificate: None };
    let Some(addresses) = addresses(config, &host, port, printer).await? else {
        return Ok(failed(DiagnosisStep::Dns));
    };
    if !connect(&addresses, network.connect_timeout, printer).await? {
        return Ok(failed(if through.is_some() { DiagnosisStep::Proxy } else { DiagnosisStep::Tcp }));
    }
    if url.scheme() != "https" {
        let why = if config.server.is_loopback() {
            "not needed for a server on this machine"
        } else {
            "not used, because of --allow-http"
        };
        printer.print(Finding::skip(DiagnosisStep::Tls, why))?;
        return Ok(Reached::default());
    }
    let begun = Instant::now();
    match handshake::perform(url, network).await {
        Ok(seen) => Ok(Reached { failed_at: None, certificate: Some(of_certificate(&seen).after(begun.elapsed())) }),
        Err(handshake::HandshakeError::Proxy) if through.is_some() => {
            printer.print(Finding::skip(DiagnosisStep::Tls, "no certificate seen, because the proxy refused"))?;
            Ok(Reached::default())
        }
        Err(_) => Ok(failed(DiagnosisStep::Tls)),
    }
}

/// The addresses of a name. `None` if there are none.
async fn addresses(
    config: &Config,
    host: &str,
    port: u16,
    printer: &mut Printer<'_>,
) -> io::Result<Option<Vec<SocketAddr>>> {
    let wanted = |address: &SocketAddr| address.is_ipv4() || !config.network.ipv4;
    if let Ok(address) = host.parse::<IpAddr>() {
        printer.print(Finding::skip(DiagnosisStep::Dns, format!("{host} is an {} address", family(address))))?;
        return Ok(Some(vec![SocketAddr::new(address, port)]));
    }
    let begun = Instant::now();
    let Ok(Ok(found)) = timeout(config.network.connect_timeout, lookup(host, port)).await else {
        return Ok(None);
    };
    let mut addresses = found;
    addresses.dedup();
    let told: Vec<String> =
        addresses.iter().map(|address| format!("{} ({})", address.ip(), family(address.ip()))).collect();
    printer.print(
        Finding::ok(DiagnosisStep::Dns, format!("{host} resolves to {}", told.join(", "))).after(begun.elapsed()),
    )?;
    addresses.retain(wanted);
    Ok((!addresses.is_empty()).then_some(addresses))
}

/// Whether any of the addresses accepts a connection. All are tried at once, and printed in their order.
async fn connect(addresses: &[SocketAddr], patience: Duration, printer: &mut Printer<'_>) -> io::Result<bool> {
    let attempt = |address: SocketAddr| async move {
        let begun = Instant::now();
        let connected = timeout(patience, TcpStream::connect(address)).await;
        let result = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(drop);
        (address, result, begun.elapsed())
    };
    let attempts: Vec<_> = addresses.iter().map(|address| tokio::spawn(attempt(*address))).collect();
    let mut any = false;
    for attempt in attempts {
        let (address, result, time) = attempt.await?;
        match result {
            Ok(()) => {
                any = true;
                printer.print(Finding::ok(DiagnosisStep::Tcp, address.to_string()).after(time))?;
            }
            // The connection itself reports a single address that does not answer.
            Err(_) if addresses.len() == 1 => {}
            // Servers of this machine often listen on one family.
            Err(error) if address.ip().is_loopback() => {
                printer.print(
                    Finding::info(DiagnosisStep::Tcp, format!("{address}: {}", text::chain(&error))).after(time),
                )?;
            }
            Err(error) => {
                let line = Finding::warn(
                    DiagnosisStep::Tcp,
                    format!("{address}: {}", text::chain(&error)),
                    "if connections are slow, add --ipv4",
                );
                let line = if address.is_ipv6() { line } else { line.with_action(None) };
                printer.print(line.after(time))?;
            }
        }
    }
    Ok(any)
}

fn of_certificate(seen: &Presented) -> Finding {
    let Presented { protocol, certificate: CertificateInfo { issuer, not_after, .. } } = seen;
    Finding::ok(
        DiagnosisStep::Tls,
        format!("{protocol}, certificate issued by {issuer}, valid until {}", not_after.strftime("%Y-%m-%d")),
    )
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

const fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
