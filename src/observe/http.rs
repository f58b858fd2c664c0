//! `/metrics`, `/healthz`, `/readyz` and `/stats` over HTTP, for Prometheus and for whoever watches.
//!
//! Promise: one thread, [`MAX_CONNECTIONS`] connections, each answered once and gone after
//! [`CONNECTION_DEADLINE`] at the latest, so that a slow, silent or greedy client costs the others
//! a wait and the line nothing. Stopping takes at most [`STOP_GRACE`].
//! Not here: TLS and passwords. It listens where the config says, and that should be a trusted network.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{Snapshot, metrics, stats_json};

/// A scraper, a dashboard, a probe and a person at a time, twice over, and room for one that hangs.
pub const MAX_CONNECTIONS: usize = 16;
/// A scrape takes milliseconds; Prometheus itself gives up after 10 seconds.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Answers under way may finish.
pub const STOP_GRACE: Duration = Duration::from_secs(1);
/// The system has no room for another connection: files, memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const PAGES: &str = "/metrics, /healthz, /readyz and /stats";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Where a page's contents come from: called for each request, on the HTTP thread; it should not
/// wait for anything but a short lock.
pub type Source = Arc<dyn Fn() -> Snapshot + Send + Sync>;
type Response = hyper::Response<Full<Bytes>>;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens, with the port that the system chose when 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Serves `source` at `address` until the server is dropped.
///
/// # Errors
/// The address cannot be bound (in use, not ours), or no thread can be had.
pub fn serve(address: SocketAddr, source: Source) -> io::Result<Server> {
    serve_with(address, source, CONNECTION_DEADLINE)
}

fn serve_with(address: SocketAddr, source: Source, deadline: Duration) -> io::Result<Server> {
    // Bound here, so that an address in use is an error at boot and not a line in the log.
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tcp = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name("lineside-http".into()).spawn(move || {
        runtime.block_on(run(&tcp, &source, deadline, stopped));
        // Dropping the runtime ends the connections that outlived their grace.
    })?;
    Ok(Server { address, stop, thread: Some(thread) })
}

/// Takes a connection only while there is a place for it; the others wait in the system's backlog.
async fn run(
    listener: &TcpListener,
    source: &Source,
    deadline: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        tokio::select! {
            () = stop(&mut stopped) => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let answered = connection(stream, Arc::clone(source), stopped.clone());
                    tokio::spawn(async move {
                        // Whatever it is doing by then: dropping it closes the connection.
                        let _ = timeout(deadline, answered).await;
                        drop(place);
                    });
                }
                // A client that left while it waited costs nobody else a pause.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    ::log::warn!("HTTP cannot take a connection: {error}; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Every place is free when the last answer is out.
    let _ = timeout(STOP_GRACE, places.acquire_many(MAX_CONNECTIONS as u32)).await;
}

/// A sender that is gone means the same as `true`: nobody wants the server any more.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// One request and its answer; an idle connection would only use up its deadline and a place.
async fn connection(stream: TcpStream, source: Source, mut stopped: watch::Receiver<bool>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = page(request.method(), request.uri().path(), &source);
        async { Ok::<_, Infallible>(response) }
    });
    let mut served =
        pin!(http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer));
    // A client that breaks off, or speaks no HTTP, has had its answer or wants none.
    tokio::select! {
        _ = served.as_mut() => {}
        () = stop(&mut stopped) => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

fn page(method: &Method, path: &str, source: &Source) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let words = format!("{method} is not answered here; only GET is\n");
        let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, words.into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n".into()),
        "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&source()).into()),
        "/readyz" => readiness(&source()),
        "/stats" => answer(StatusCode::OK, JSON, stats_json(&source())),
        _ => {
            let words = format!("there is no page {path}; there are {PAGES}\n");
            answer(StatusCode::NOT_FOUND, TEXT, words.into())
        }
    }
}

fn readiness(now: &Snapshot) -> Response {
    #[derive(Serialize)]
    struct Readiness {
        ready: bool,
        reasons: Vec<String>,
    }
    let reasons = now.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_vec(&Readiness { ready: reasons.is_empty(), reasons })
        .expect("a flag and text: nothing in it can fail");
    answer(status, JSON, body)
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::super::tests::snapshot;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;
    use std::time::Instant;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn server(deadline: Duration) -> Server {
        serve_with(ANY, Arc::new(snapshot), deadline).unwrap()
    }

    fn connect(server: &Server) -> Client {
        let client = Client::connect(server.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// Status, headers and body of an answer; reads to the end, which the server must close.
    fn ask(server: &Server, request: &str) -> (u16, String, String) {
        let mut client = connect(server);
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.into())
    }

    fn page(server: &Server, path: &str) -> (u16, String, String) {
        ask(server, &format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"))
    }

    #[test]
    fn every_page_answers_in_its_own_format() {
        let server = server(CONNECTION_DEADLINE);
        let (status, head, body) = page(&server, "/metrics");
        assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
        assert_eq!(body, metrics::render(&snapshot()));
        let (status, head, body) = page(&server, "/stats?pretty");
        assert!(status == 200 && head.contains("application/json"), "{head}");
        assert_eq!(body.as_bytes(), stats_json(&snapshot()));
        let (status, _, body) = page(&server, "/readyz");
        assert_eq!((status, body.as_str()), (200, r#"{"ready":true,"reasons":[]}"#));
        let (status, _, body) = page(&server, "/healthz");
        assert_eq!((status, body.as_str()), (200, "ok\n"));
    }

    #[test]
    fn what_is_not_there_is_said_in_words() {
        let server = server(CONNECTION_DEADLINE);
        let (status, _, body) = page(&server, "/status");
        let words = "there is no page /status; there are /metrics, /healthz, /readyz and /stats\n";
        assert_eq!((status, body.as_str()), (404, words));
        let (status, head, body) =
            ask(&server, "POST /stats HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert!(status == 405 && head.contains("allow: get") && body.contains("only GET"), "{head} {body}");
        let (status, _, body) = ask(&server, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(ask(&server, "nonsense\r\n\r\n").0, 400);
    }

    #[test]
    fn not_ready_is_a_503_with_its_reasons() {
        let starting = || Snapshot { phase: Phase::Starting, ..snapshot() };
        let server = serve(ANY, Arc::new(starting)).unwrap();
        let (status, _, body) = page(&server, "/readyz");
        let wanted = r#"{"ready":false,"reasons":["models are being loaded and checked"]}"#;
        assert_eq!((status, body.as_str()), (503, wanted));
        assert_eq!(page(&server, "/healthz").0, 200);
    }

    #[test]
    fn silent_clients_on_every_place_are_gone_after_the_deadline() {
        let server = server(Duration::from_millis(300));
        let start = Instant::now();
        let mut silent: Vec<Client> = (0..2 * MAX_CONNECTIONS).map(|_| connect(&server)).collect();
        // Drips bytes: each is progress, and none may keep the place.
        silent[0].write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        assert_eq!(page(&server, "/healthz").0, 200);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        for client in &mut silent {
            let mut rest = Vec::new();
            // Closed or reset by the server: either way it is over.
            let _ = client.read_to_end(&mut rest);
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
        }
    }

    #[test]
    fn dropping_the_server_frees_its_address_though_a_client_hangs() {
        let server = server(Duration::from_secs(60));
        let address = server.address();
        let mut hanging = connect(&server);
        hanging.write_all(b"GET /metr").unwrap();
        assert_eq!(page(&server, "/healthz").0, 200);
        let start = Instant::now();
        drop(server);
        assert!(start.elapsed() < STOP_GRACE + Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(Client::connect(address).is_err());
        let again = serve(address, Arc::new(snapshot)).unwrap();
        assert_eq!(again.address(), address);
    }

    #[test]
    fn an_address_in_use_is_an_error_at_once() {
        let server = server(CONNECTION_DEADLINE);
        let error = serve(server.address(), Arc::new(snapshot)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_panic_in_the_source_costs_one_answer() {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let source = move || {
            assert!(calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0, "the first call panics");
            snapshot()
        };
        let server = serve(ANY, Arc::new(source)).unwrap();
        let mut client = connect(&server);
        client.write_all(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut nothing = Vec::new();
        let _ = client.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        assert_eq!(page(&server, "/stats").0, 200);
    }
}
