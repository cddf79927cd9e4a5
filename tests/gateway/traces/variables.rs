//! OpenTelemetry's own variables, beneath the settings.

use http::{Method, StatusCode};

use super::{exporting, vendor};
use crate::support::collector::{Collector, Span};
use crate::support::path;
use crate::support::process::{Program, Serving};

/// What a gateway with these settings and variables hands over by its end of one request.
async fn traced(collector: &Collector, settings: &str, env: &[(&str, &str)]) -> Vec<Span> {
    let world = vendor().await;
    let mut serving = Serving::with_env(&world.vendor.url(), settings, env).await;
    let answer = serving.get(&path("cl-n6-a")).await;
    assert_eq!(answer.status, StatusCode::OK);
    serving.program.signal("TERM");
    assert_eq!(serving.program.ended().await.code, Some(0));
    collector.spans()
}

#[tokio::test]
async fn opentelemetrys_variables_alone_are_enough() {
    let collector = Collector::start().await;
    let spans = traced(
        &collector,
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary%20key,x-other=2"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
            ("OTEL_SERVICE_NAME", "contacts-of-campaigns"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            ),
        ],
    )
    .await;
    assert_eq!(spans.len(), 4);
    let resource = &spans[0].resource;
    assert_eq!(resource["service.name"], "contacts-of-campaigns");
    assert_eq!(resource["deployment.environment.name"], "test");
    let (path, head) = &collector.heads()[0];
    assert_eq!(path, "/v1/traces");
    assert_eq!(head["content-type"], "application/x-protobuf");
    assert_eq!(head["x-key"], "canary key");
    assert_eq!(head["x-other"], "2");
}

#[tokio::test]
async fn the_service_has_its_own_variables_name_and_attributes_are_decoded() {
    let collector = Collector::start().await;
    let spans = traced(
        &collector,
        &exporting(&collector.url, 1.0),
        &[
            ("OTEL_SERVICE_NAME", "contacts-of-campaigns"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=all, team = a%2Cb%3D%C3%A9 ,odd%20key=1=2,service.version=7,",
            ),
        ],
    )
    .await;
    let resource = &spans[0].resource;
    assert_eq!(resource["service.name"], "contacts-of-campaigns");
    assert_eq!(resource["team"], "a,b=é");
    assert_eq!(resource["odd key"], "1=2");
    assert_eq!(resource["service.version"], "7");
    assert_eq!(resource["telemetry.sdk.language"], "rust");
}

#[tokio::test]
async fn the_url_for_traces_is_used_as_it_is_and_a_base_url_has_a_path_added() {
    for (settings, name, path, want) in [
        (
            "",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "/my/own",
            "/my/own",
        ),
        (
            "",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "/base/",
            "/base/v1/traces",
        ),
        ("own", "", "", "/own/v1/traces"),
    ] {
        let collector = Collector::start().await;
        let url = format!("{}{path}", collector.url);
        let own = format!("{}/own", collector.url);
        let settings = if settings.is_empty() {
            "".into()
        } else {
            exporting(&own, 1.0)
        };
        let mut env = vec![("OTEL_TRACES_SAMPLER", "always_on")];
        env.extend((!name.is_empty()).then_some((name, &*url)));
        assert_eq!(traced(&collector, &settings, &env).await.len(), 4);
        assert_eq!(collector.heads()[0].0, want);
    }
}

#[tokio::test]
async fn the_settings_go_before_the_variables_and_off_goes_before_both() {
    let nowhere = "http://127.0.0.1:9";
    let on = ("OTEL_TRACES_SAMPLER", "always_on");
    for (ratio, env, spans) in [
        (1.0, vec![("OTEL_EXPORTER_OTLP_ENDPOINT", nowhere)], 4),
        (
            1.0,
            vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", nowhere)],
            4,
        ),
        (1.0, vec![("OTEL_TRACES_SAMPLER", "always_off")], 4),
        (0.0, vec![on], 0),
        (1.0, vec![on, ("OTEL_SDK_DISABLED", "true")], 0),
        (1.0, vec![on, ("OTEL_SDK_DISABLED", "false")], 4),
        (1.0, vec![on, ("OTEL_TRACES_EXPORTER", "none")], 0),
        (1.0, vec![on, ("OTEL_TRACES_EXPORTER", "otlp")], 4),
    ] {
        let collector = Collector::start().await;
        let settings = exporting(&collector.url, ratio);
        let came = traced(&collector, &settings, &env).await;
        assert_eq!(came.len(), spans, "{ratio} {env:?}");
    }
}

#[tokio::test]
async fn a_variable_that_cannot_be_used_is_passed_over_and_told_of_without_its_value() {
    let collector = Collector::start().await;
    let settings = exporting(&collector.url, 1.0);
    let wrong = [
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "canary://canary:canary@x",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "canary"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,team=canary%2"),
    ];
    let world = vendor().await;
    let mut serving = Serving::with_env(&world.vendor.url(), &settings, &wrong).await;
    serving.get(&path("cl-n6-a")).await;
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    assert_eq!(collector.spans().len(), 4);
    for (name, _) in wrong {
        assert!(ended.err.contains(name), "{name} in {}", ended.err);
    }
    assert!(!ended.err.contains("canary"), "{}", ended.err);
}

#[tokio::test]
async fn what_goes_to_the_collector_with_spans_is_told_to_nobody_else() {
    let collector = Collector::answering(500).await;
    let settings = "[telemetry]\nlog = \"trace\"\n";
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary-key"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let world = vendor().await;
    let mut serving = Serving::with_env(&world.vendor.url(), settings, &env).await;
    serving.get(&path("cl-n6-a")).await;
    serving.program.line("spans cannot be exported").await;
    assert_eq!(collector.heads()[0].1["authorization"], "canary-key");
    let metrics = serving.operate(Method::GET, "/metrics").await.text();
    let status = serving.operate(Method::GET, "/status").await.text();
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    let seen = world.vendor.requests().pop().unwrap();
    let shown = Program::run(&["check"], &env).await;
    for told in [
        metrics,
        status,
        ended.out,
        ended.err,
        format!("{seen:?}"),
        shown.out,
        shown.err,
    ] {
        assert!(!told.contains("canary-key"), "{told}");
    }
}
