//! Resolves names with the DNS servers of `/etc/resolv.conf`. A change of the file takes effect at the next lookup.
//!
//! *Guarantees:* only servers in the file are asked. A file without a server is an error until the file changes. The
//! addresses of one family do not wait long for the other family. A lookup takes no longer than [`TIMEOUT`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

/// Maximum time of a lookup.
pub(super) const TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum time for one server, so that another server can answer within [`TIMEOUT`].
const MAX_QUERY_TIME: Duration = Duration::from_secs(2);
/// Resolution delay of RFC 8305 section 3: the time that one address family waits for the other. Some servers never
/// answer for IPv6.
const RESOLUTION_DELAY: Duration = Duration::from_millis(300);

/// The resolver of this machine.
pub(super) struct SystemResolver {
    files: Files,
    cached: Mutex<Option<Cached>>,
}

/// Files that configure name resolution.
#[derive(Clone)]
struct Files {
    servers: PathBuf,
    hosts: PathBuf,
    /// The port of every DNS server.
    port: u16,
}

/// Contents of the files.
#[derive(Clone, PartialEq, Eq)]
struct FileContents {
    servers: Vec<u8>,
    hosts: Vec<u8>,
}

/// Lookups, with the file contents they were made from.
struct Cached {
    contents: FileContents,
    lookups: Arc<Lookups>,
}

/// One resolver for each address family, so that each can answer alone.
struct Lookups {
    v4: TokioResolver,
    v6: TokioResolver,
    has_servers: bool,
}

/// Reason why a name has no address.
#[derive(Debug)]
pub(super) struct ResolveError {
    name: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// The system names no DNS server.
    NoServer,
    /// No server answered in time.
    TimedOut,
    /// The error of a server, or the reason why no server could be asked.
    Failed(NetError),
}

impl SystemResolver {
    pub(super) fn new() -> Self {
        Self::by(Files { servers: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 })
    }

    fn by(files: Files) -> Self {
        Self { files, cached: Mutex::new(None) }
    }

    /// The lookups for the current contents of the files.
    fn lookups(&self) -> Result<Arc<Lookups>, NetError> {
        let contents = self.files.read();
        let mut cached = self.cached.lock();
        if let Some(cached) = cached.as_ref().filter(|cached| cached.contents == contents) {
            return Ok(Arc::clone(&cached.lookups));
        }
        let lookups = Arc::new(Lookups::by(&contents, self.files.port)?);
        *cached = Some(Cached { contents, lookups: Arc::clone(&lookups) });
        Ok(lookups)
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.lookups();
        Box::pin(async move {
            let name = name.as_str();
            let found = match lookups {
                Ok(lookups) => lookups.find(name).await,
                Err(error) => Err(Cause::Failed(error)),
            };
            let found = found.map_err(|cause| ResolveError { name: name.to_owned(), cause })?;
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

impl Files {
    /// A missing file counts as empty. Both files are small and are read for new connections only.
    fn read(&self) -> FileContents {
        let read = |path| std::fs::read(path).unwrap_or_default();
        FileContents { servers: read(&self.servers), hosts: read(&self.hosts) }
    }
}

impl Lookups {
    fn by(contents: &FileContents, port: u16) -> Result<Self, NetError> {
        let (system, faults) = resolv_conf::Config::parse_with_errors(&contents.servers);
        for fault in faults {
            tracing::debug!(%fault, "resolv.conf has an invalid line, which is ignored");
        }
        let servers: Vec<_> = system.nameservers.iter().map(|address| server(address.into(), port)).collect();
        let search =
            system.get_last_search_or_domain().filter_map(|domain| DnsName::from_str_relaxed(domain).ok());
        let has_servers = !servers.is_empty();
        let config = ResolverConfig::from_parts(None, search.collect(), servers);
        let family = |ip_strategy| {
            let runtime = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config.clone(), runtime);
            let options = builder.options_mut();
            options.ip_strategy = ip_strategy;
            options.ndots = system.ndots as usize;
            options.timeout = Duration::from_secs(system.timeout.max(1).into()).min(MAX_QUERY_TIME);
            // No negative caching: a new DNS entry works at once, as for other programs on this machine.
            options.negative_max_ttl = Some(Duration::ZERO);
            options.attempts = system.attempts as usize;
            options.edns0 = system.edns0;
            builder.build()
        };
        let (v4, v6) = (family(LookupIpStrategy::Ipv4Only)?, family(LookupIpStrategy::Ipv6Only)?);
        Ok(Self { v4, v6, has_servers })
    }

    /// The addresses of a name, IPv6 first.
    async fn find(&self, name: &str) -> Result<Vec<IpAddr>, Cause> {
        match timeout(TIMEOUT, self.find_both(name)).await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            _ if !self.has_servers => Err(Cause::NoServer),
            Ok(Ok(_)) => Err(Cause::Failed("the name has no address".into())),
            Ok(Err(error)) => Err(Cause::Failed(error)),
            Err(_) => Err(Cause::TimedOut),
        }
    }

    /// Asks for both families at once. After the first answer with addresses, the other family has a short time left.
    async fn find_both(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let (v4, v6) = (addresses(&self.v4, name), addresses(&self.v6, name));
        tokio::pin!(v4, v6);
        let (first, is_v4) = tokio::select! {
            first = &mut v4 => (first, true),
            first = &mut v6 => (first, false),
        };
        let has_some = first.as_ref().is_ok_and(|first| !first.is_empty());
        let other = async { if is_v4 { v6.await } else { v4.await } };
        let second = if has_some {
            timeout(RESOLUTION_DELAY, other).await.unwrap_or(Ok(Vec::new()))
        } else {
            other.await
        };
        let (v4, v6) = if is_v4 { (first, second) } else { (second, first) };
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok([v6, v4].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

async fn addresses(family: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, NetError> {
    Ok(family.lookup_ip(name).await?.iter().collect())
}

fn server(address: IpAddr, port: u16) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address);
    for connection in &mut server.connections {
        connection.port = port;
    }
    server
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cause } = self;
        match cause {
            Cause::NoServer => write!(f, "cannot resolve {name}: /etc/resolv.conf names no DNS server"),
            Cause::TimedOut => {
                write!(f, "cannot resolve {name}: no DNS server in /etc/resolv.conf answers in time")
            }
            Cause::Failed(_) => {
                write!(f, "cannot resolve {name}: check the server's DNS, and the name of the host")
            }
        }
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Failed(error) => Some(error),
            Cause::NoServer | Cause::TimedOut => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;
    use tokio::net::UdpSocket;

    use super::*;

    const A: u8 = 1;
    const AAAA: u8 = 28;

    /// A DNS server that answers some record types, each with one address.
    struct Server {
        asked: Arc<Mutex<Vec<u8>>>,
        /// True if the server knows the name.
        knows: Arc<AtomicBool>,
        port: u16,
    }

    impl Server {
        /// Listens at `address`; `answers` maps each record type to an address.
        async fn start(address: &str, port: u16, answers: Vec<(u8, IpAddr)>) -> Self {
            let socket = UdpSocket::bind((address, port)).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let asked = Arc::<Mutex<Vec<u8>>>::default();
            let (log, knows) = (Arc::clone(&asked), Arc::new(AtomicBool::new(true)));
            let known = Arc::clone(&knows);
            tokio::spawn(async move {
                let mut bytes = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                    let end = 12 + bytes[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
                    let asked_type = bytes[end - 3];
                    log.lock().push(asked_type);
                    if !known.load(Ordering::SeqCst) {
                        socket.send_to(&no_such_name(&bytes[..end]), from).await.unwrap();
                    } else if let Some((_, address)) =
                        answers.iter().find(|(answered, _)| *answered == asked_type)
                    {
                        socket.send_to(&answer(&bytes[..end], *address), from).await.unwrap();
                    }
                }
            });
            Self { asked, knows, port }
        }

        fn asked(&self) -> Vec<u8> {
            self.asked.lock().clone()
        }
    }

    /// A response with one address to a query with one question.
    fn answer(query: &[u8], address: IpAddr) -> Vec<u8> {
        let data = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let counts = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let record = [0xc0, 12, 0, query[query.len() - 3], 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
        [&query[..2], &counts, &query[12..], &record, &data].concat()
    }

    /// NXDOMAIN with a lifetime of one hour.
    fn no_such_name(query: &[u8]) -> Vec<u8> {
        let counts = [0x81, 0x83, 0, 1, 0, 0, 0, 1, 0, 0];
        let soa = [0, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0];
        let numbers = [1_u32, 3600, 3600, 3600, 3600].map(u32::to_be_bytes).concat();
        [&query[..2], &counts, &query[12..], &soa, &numbers].concat()
    }

    fn resolver(folder: &TempDir, port: u16) -> SystemResolver {
        let file = |name| folder.path().join(name);
        SystemResolver::by(Files { servers: file("resolv.conf"), hosts: file("hosts"), port })
    }

    fn write(folder: &TempDir, text: &str) {
        std::fs::write(folder.path().join("resolv.conf"), text).unwrap();
    }

    async fn resolve(resolver: &SystemResolver) -> Result<Vec<IpAddr>, String> {
        let found = resolver.resolve("api.openai.test".parse().unwrap()).await;
        found.map(|found| found.map(|address| address.ip()).collect()).map_err(|error| error.to_string())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_name_server_that_changes_is_followed_and_the_old_one_is_not_asked_again() {
        let folder = TempDir::new().unwrap();
        let both = |v4: &str, v6: &str| vec![(A, ip(v4)), (AAAA, ip(v6))];
        let old = Server::start("127.0.0.1", 0, both("192.0.2.1", "2001:db8::1")).await;
        let new = Server::start("127.0.0.2", old.port, both("192.0.2.2", "2001:db8::2")).await;
        let resolver = resolver(&folder, old.port);
        write(&folder, "nameserver 127.0.0.1\n");
        assert_eq!(resolve(&resolver).await.unwrap(), [ip("2001:db8::1"), ip("192.0.2.1")]);
        let before = old.asked().len();
        write(&folder, "nameserver 127.0.0.2\n");
        assert_eq!(resolve(&resolver).await.unwrap(), [ip("2001:db8::2"), ip("192.0.2.2")]);
        assert_eq!((old.asked().len(), new.asked().len()), (before, 2));
    }

    #[tokio::test]
    async fn a_file_that_names_nobody_asks_nobody_and_works_once_it_is_right() {
        let folder = TempDir::new().unwrap();
        let server = Server::start("127.0.0.1", 0, vec![(A, ip("192.0.2.1"))]).await;
        let resolver = resolver(&folder, server.port);
        let nobody = "cannot resolve api.openai.test: /etc/resolv.conf names no DNS server";
        assert_eq!(resolve(&resolver).await.unwrap_err(), nobody, "there is no file");
        for text in ["", "# nameserver 127.0.0.1\n", "nameserver nonsense\noptions ndots:2\n"] {
            write(&folder, text);
            assert_eq!(resolve(&resolver).await.unwrap_err(), nobody, "{text}");
        }
        assert_eq!(server.asked(), Vec::<u8>::new());
        write(&folder, "nameserver 127.0.0.1\n");
        assert_eq!(resolve(&resolver).await.unwrap(), [ip("192.0.2.1")]);
    }

    #[tokio::test]
    async fn the_answer_for_one_family_is_enough_where_the_other_is_never_answered() {
        for (answered, address) in [(A, ip("192.0.2.1")), (AAAA, ip("2001:db8::1"))] {
            let folder = TempDir::new().unwrap();
            let server = Server::start("127.0.0.1", 0, vec![(answered, address)]).await;
            write(&folder, "nameserver 127.0.0.1\n");
            let resolver = resolver(&folder, server.port);
            assert_eq!(resolve(&resolver).await.unwrap(), [address]);
            let asked = server.asked();
            assert!(asked.contains(&A) && asked.contains(&AAAA), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_was_entered_a_moment_ago_is_found() {
        let folder = TempDir::new().unwrap();
        let server = Server::start("127.0.0.1", 0, vec![(A, ip("192.0.2.1"))]).await;
        server.knows.store(false, Ordering::SeqCst);
        write(&folder, "nameserver 127.0.0.1\n");
        let resolver = resolver(&folder, server.port);
        let unknown = "cannot resolve api.openai.test: check the server's DNS, and the name of the host";
        assert_eq!(resolve(&resolver).await.unwrap_err(), unknown);
        server.knows.store(true, Ordering::SeqCst);
        assert_eq!(resolve(&resolver).await.unwrap(), [ip("192.0.2.1")]);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_leaves_time_for_the_next() {
        let folder = TempDir::new().unwrap();
        let silent = Server::start("127.0.0.1", 0, Vec::new()).await;
        let _silent_too = Server::start("127.0.0.2", silent.port, Vec::new()).await;
        let _good = Server::start("127.0.0.3", silent.port, vec![(A, ip("192.0.2.1"))]).await;
        write(&folder, "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n");
        assert_eq!(resolve(&resolver(&folder, silent.port)).await.unwrap(), [ip("192.0.2.1")]);
    }
}
