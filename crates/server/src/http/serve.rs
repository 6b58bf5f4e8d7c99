//! Sockets: opening all of them before anything is promised, serving, and ending politely.

use crate::config::listen::Listen;
use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a request's first line and headers may take; also how long an idle connection is kept.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// Opens every socket, or says which address is the trouble.
pub fn bind_all(listen: &[Listen]) -> anyhow::Result<Vec<TcpListener>> {
    listen.iter().map(|listen| bind(*listen).with_context(|| explain(*listen))).collect()
}

fn explain(listen: Listen) -> String {
    format!(
        "could not listen on {listen}; if the address is in use, end the program that has it (ss -ltnp 'sport = :{}'), \
         or choose another",
        listen.port()
    )
}

fn bind(listen: Listen) -> io::Result<TcpListener> {
    match listen {
        Listen::At(address) => open(address, false),
        Listen::Everywhere(port) => match open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), true) {
            // A machine without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)
            }
            result => result,
        },
    }
}

fn open(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A client that opens a connection and says nothing does not keep it.
fn limit<A: axum_server::Address, Acceptor>(server: &mut axum_server::Server<A, Acceptor>) {
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    server.http_builder().http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIME);
}

/// The running servers, one a socket.
pub struct Servers {
    handles: Vec<Handle<SocketAddr>>,
    tasks: tokio::task::JoinSet<io::Result<()>>,
}

impl Servers {
    /// Starts serving on every socket.
    pub fn start(sockets: Vec<TcpListener>, router: &Router, tls: Option<&RustlsConfig>) -> anyhow::Result<Self> {
        let mut servers = Self { handles: Vec::new(), tasks: tokio::task::JoinSet::new() };
        for socket in sockets {
            let handle = Handle::new();
            let service = router.clone().into_make_service_with_connect_info::<SocketAddr>();
            servers.handles.push(handle.clone());
            match tls {
                Some(tls) => {
                    let mut server = axum_server::from_tcp_rustls(socket, tls.clone()).context("serve TLS")?;
                    limit(&mut server);
                    servers.tasks.spawn(server.handle(handle).serve(service));
                }
                None => {
                    let mut server = axum_server::from_tcp(socket).context("serve")?;
                    limit(&mut server);
                    servers.tasks.spawn(server.handle(handle).serve(service));
                }
            }
        }
        Ok(servers)
    }

    /// Resolves when a server ends by itself, which none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => anyhow::Error::new(error).context("a listener failed"),
            Some(Err(error)) => anyhow::Error::new(error).context("a listener's task ended"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a listener ended"),
        }
    }

    /// Stops accepting at once, and gives what is under way some time.
    pub fn stop(&self, grace: Duration) {
        for handle in &self.handles {
            handle.graceful_shutdown(Some(grace));
        }
    }

    /// Ends every connection.
    pub fn abort(&self) {
        for handle in &self.handles {
            handle.shutdown();
        }
    }

    /// Resolves when every server has ended.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
