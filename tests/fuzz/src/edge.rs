//! The edge's rungs that read requests and write answers, around a cache that answers as it is told.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use contacts_gateway::cache::Answer;
use contacts_gateway::clock::Clock;
use contacts_gateway::config::Config;
use contacts_gateway::contacts::Ask;
use contacts_gateway::edge::callers::Callers;
use contacts_gateway::edge::trace::Inbound;
use contacts_gateway::edge::{Body, identify, respond, route};
use contacts_gateway::error::Error;
use contacts_gateway::soon::Soon;
use contacts_gateway::telemetry::metrics::Metrics;
use contacts_gateway::upstream::credentials::Credentials;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::ServiceExt;
use tower::{ServiceBuilder, service_fn};

/// The fields and parameters that the settings allow beside the vendor's own.
pub(crate) const FORWARDED: [&str; 2] = ["accept-language", "x-tenant"];
const EXTRA: [&str; 2] = ["lang", "q"];

/// What the edge makes of a request: the ask, if it lets it through, and what it answers.
pub(crate) fn ask(
    request: Request<Full<Bytes>>,
    answer: impl Fn(&Ask) -> Answer,
) -> (Option<Ask>, Result<Response<Body>, Error>) {
    let (config, credentials, metrics) = &*SETTINGS;
    let callers = Callers::new(&config.callers, metrics, Clock::system().now());
    let asked = RefCell::new(None);
    let inbound = Inbound::new(request, &Clock::system());
    let response = ServiceBuilder::new()
        .layer(identify::layer(Arc::new(callers)))
        .layer(route::layer(
            &config.listen,
            &config.upstream,
            credentials.streams(),
        ))
        .layer(respond::layer())
        .service(service_fn(|ask: Ask| {
            let answer = answer(&ask);
            asked.replace(Some(ask));
            Soon::Now(Ok(answer))
        }))
        .oneshot(&inbound)
        .now_or_never()
        .expect("nothing of this waits");
    (
        asked.into_inner(),
        response.map_err(|failure| failure.error),
    )
}

/// Settings with credentials for every stream, and no callers named.
static SETTINGS: LazyLock<(Config, Arc<Credentials>, Arc<Metrics>)> = LazyLock::new(|| {
    let name = format!("contacts-gateway-fuzz-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let (settings, secret) = (folder.join("gateway.toml"), folder.join("secret"));
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let text = format!(
        "[upstream]\nforward_headers = {FORWARDED:?}\nextra_query = {EXTRA:?}\n\
        [[credentials]]\nstream = \"*\"\nclient_id = \"cs-1\"\nsecret_file = {secret:?}\n"
    );
    std::fs::write(&settings, text).unwrap();
    let config = Config::load(Some(&settings), std::iter::empty()).unwrap();
    let credentials = Credentials::load(&config.credentials).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let metrics = Metrics::new().unwrap();
    (config, Arc::new(credentials), metrics)
});
