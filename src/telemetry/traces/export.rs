//! The way out for spans: OpenTelemetry's queue and thread, and a client for them.
//!
//! A request only ever puts a span into the queue, or drops it where the queue is full. A collector that is slow, refuses
//! or is gone costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor,
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::super::metrics::Metrics;
use super::resource::resource;
use super::settings::Plan;

/// What a collector may answer with: it is looked at by nobody.
const MOST_ANSWER: usize = 1 << 20;

/// Takes spans that are over.
#[derive(Clone, Debug)]
pub(super) struct Outlet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    processor: BatchSpanProcessor,
    queue: Arc<Queue>,
}

/// How many spans are on their way, so that it is known what becomes of each.
#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    most: usize,
    metrics: Arc<Metrics>,
}

impl Outlet {
    /// Starts the thread that exports. The connections are this runtime's.
    pub(super) fn open(plan: Plan, metrics: &Arc<Metrics>) -> Self {
        let queue = Arc::new(Queue {
            waiting: AtomicUsize::new(0),
            most: plan.queue,
            metrics: metrics.clone(),
        });
        let to = plan.endpoint.authority().map(ToString::to_string);
        let rejected = Arc::new(AtomicUsize::new(0));
        let private = plan.endpoint.scheme() == Some(&Scheme::HTTPS);
        let client = Client::new(private, plan.timeout, rejected.clone());
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(plan.endpoint.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(plan.timeout)
            .build();
        let exporter = match exporter {
            Ok(mut exporter) => {
                exporter.set_resource(&resource(&plan.attributes));
                Some(exporter)
            }
            Err(error) => {
                warn!("spans cannot be exported: {error}");
                None
            }
        };
        info!(collector = to, "traces go to a collector");
        let exporter = Counted {
            exporter,
            queue: queue.clone(),
            rejected,
            failing: AtomicBool::new(false),
        };
        let batches = BatchConfigBuilder::default().with_max_queue_size(plan.queue);
        let processor = BatchSpanProcessor::new(exporter, batches.build());
        Self(Arc::new(Inner { processor, queue }))
    }

    /// Takes a span, or drops it.
    pub(super) fn take(&self, span: SpanData) {
        let Inner { processor, queue } = &*self.0;
        if queue.waiting.fetch_add(1, Relaxed) < queue.most {
            processor.on_end(span);
        } else {
            queue.waiting.fetch_sub(1, Relaxed);
            queue.metrics.spans("dropped", 1);
        }
    }

    /// Hands over what is left, for so long at most.
    pub(super) fn close(&self, within: Duration) {
        let ended = self.0.processor.shutdown_with_timeout(within);
        let spans = self.0.queue.waiting.load(Relaxed);
        if ended.is_err() && spans > 0 {
            warn!(
                spans,
                "spans are lost: the collector did not take them in time"
            );
        }
    }
}

/// An exporter whose successes and failures are counted, and told when one turns into the other.
#[derive(Debug)]
struct Counted {
    exporter: Option<opentelemetry_otlp::SpanExporter>,
    queue: Arc<Queue>,
    /// Of the batch that is under way, those that the collector took the request for and then did not want.
    rejected: Arc<AtomicUsize>,
    failing: AtomicBool,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let ended = match &self.exporter {
            Some(exporter) => exporter.export(batch).await,
            None => Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown),
        };
        let rejected = self.rejected.swap(0, Relaxed).min(spans);
        let failed = if ended.is_ok() { rejected } else { spans };
        let metrics = &self.queue.metrics;
        metrics.spans("exported", (spans - failed) as u64);
        metrics.spans("failed", failed as u64);
        self.queue.waiting.fetch_sub(spans, Relaxed);
        match (&ended, self.failing.swap(ended.is_err(), Relaxed)) {
            (Err(error), false) => warn!("spans cannot be exported: {error}"),
            (Ok(()), true) => info!("spans are exported again"),
            _ => {}
        }
        ended
    }
}

/// Sends requests from a thread that has no runtime: they are made by tasks on ours.
#[derive(Debug)]
struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    rejected: Arc<AtomicUsize>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl Client {
    fn new(private: bool, timeout: Duration, rejected: Arc<AtomicUsize>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(private))
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        Self {
            pool: pool.build(https),
            timeout,
            rejected,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (pool, timeout) = (self.pool.clone(), self.timeout);
        let (tell, told) = oneshot::channel::<Result<_, HttpError>>();
        // Whatever needs the runtime, the timer included, is made in here.
        let task = async move {
            let exchange = async {
                let answer = pool.request(request.map(Full::new)).await?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, MOST_ANSWER).collect().await?;
                Ok(Response::from_parts(head, body.to_bytes()))
            };
            let answer = tokio::time::timeout(timeout, exchange).await;
            let answer = answer.unwrap_or_else(|late| Err(late.into()));
            // Nobody listens any more once the exporter has been told to end.
            let _ = tell.send(answer);
        };
        self.tasks.spawn_on(task, &self.runtime);
        let answer = told.await??;
        if answer.status().is_success() {
            // The exporter says nothing of these. What cannot be read says nothing either.
            let answer = ExportTraceServiceResponse::decode(&**answer.body()).unwrap_or_default();
            let partial = answer.partial_success.unwrap_or_default();
            let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
            self.rejected.store(rejected, Relaxed);
        }
        Ok(answer)
    }
}

/// With the system's roots where they are of use: nothing at a start takes longer than to read them.
fn tls(private: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if private {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    // The same provider that the program installs as its default before anything else.
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
