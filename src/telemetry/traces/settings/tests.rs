//! What becomes of settings and variables together.

use super::*;

/// What is done with these settings and variables: where spans go, which are taken, and what is warned of.
fn planned(own: &str, variables: &[(&str, &str)]) -> (String, Sampler, usize) {
    let open_telemetry = OpenTelemetry::read(variables.iter().copied(), false);
    let warnings = open_telemetry.warnings.len();
    let settings = Settings {
        log: crate::telemetry::Level::Info,
        log_format: crate::telemetry::LogFormat::Json,
        otlp_endpoint: own.parse().unwrap(),
        trace_ratio: Ratio(0.5),
        open_telemetry,
    };
    let to = settings.traces().map(|plan| plan.endpoint.to_string());
    (to.unwrap_or_default(), settings.sampler(), warnings)
}

#[test]
fn spans_go_where_the_most_particular_says() {
    const OWN: &str = "http://own:1";
    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://base:2/x/");
    const EXACT: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://exact:3/y");
    for (own, variables, to) in [
        ("", &[][..], ""),
        ("", &[BASE], "https://base:2/x/v1/traces"),
        ("", &[BASE, EXACT], "http://exact:3/y"),
        (OWN, &[BASE, EXACT], "http://own:1/v1/traces"),
        ("http://own:1/x/", &[], "http://own:1/x/v1/traces"),
        // Said in so many words, it goes where OpenTelemetry's specification says.
        (
            "",
            &[("OTEL_TRACES_EXPORTER", "otlp")],
            "http://localhost:4318/v1/traces",
        ),
        ("", &[("OTEL_TRACES_EXPORTER", "none"), BASE], ""),
        (OWN, &[("OTEL_TRACES_EXPORTER", "none")], ""),
        (OWN, &[("OTEL_SDK_DISABLED", "TRUE")], ""),
        (
            OWN,
            &[("OTEL_SDK_DISABLED", "false")],
            "http://own:1/v1/traces",
        ),
        // Empty is not set.
        (
            "",
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""), BASE],
            "https://base:2/x/v1/traces",
        ),
    ] {
        let (found, _, warnings) = planned(own, variables);
        assert_eq!((&*found, warnings), (to, 0), "{own:?} {variables:?}");
    }
}

#[test]
fn requests_are_taken_as_the_sampler_says() {
    const ARG: (&str, &str) = ("OTEL_TRACES_SAMPLER_ARG", "0.25");
    let sampler = |name| ("OTEL_TRACES_SAMPLER", name);
    for (variables, ratio, parent_based) in [
        (&[][..], 0.5, true),
        // The argument of a sampler that nobody chose.
        (&[ARG], 0.5, true),
        (&[sampler("always_on"), ARG], 1.0, false),
        (&[sampler("always_off")], 0.0, false),
        (&[sampler("traceidratio"), ARG], 0.25, false),
        (&[sampler("traceidratio")], 1.0, false),
        (&[sampler("parentbased_always_on")], 1.0, true),
        (&[sampler("parentbased_always_off")], 0.0, true),
        (&[sampler("parentbased_traceidratio"), ARG], 0.25, true),
    ] {
        let (_, found, warnings) = planned("", variables);
        assert_eq!(found, Sampler::of(ratio, parent_based), "{variables:?}");
        assert_eq!(warnings, 0, "{variables:?}");
    }
    let written = OpenTelemetry::read([sampler("always_on")].into_iter(), true);
    assert_eq!(written.sampler, None, "the settings say");
}

#[test]
fn a_variable_that_cannot_be_used_is_passed_over() {
    for variable in [
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "base:2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://base:2"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://user:word@exact",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
    ] {
        let (to, sampler, warnings) = planned("", &[variable]);
        assert_eq!((&*to, warnings), ("", 1), "{variable:?}");
        assert_eq!(sampler, Sampler::of(0.5, true), "{variable:?}");
    }
    let argument = [
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert_eq!(planned("", &argument).2, 1);
}

#[test]
fn as_many_are_taken_as_the_ratio_says() {
    for (ratio, least, most) in [
        (0.0, 0, 0),
        (0.01, 800, 1_200),
        (0.5, 49_000, 51_000),
        (1.0, 100_000, 100_000),
    ] {
        let sampler = Sampler::of(ratio, true);
        let taken = (0..100_000).filter(|_| sampler.takes(None)).count();
        assert!((least..=most).contains(&taken), "{taken} at {ratio}");
    }
}
