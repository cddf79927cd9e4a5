"""The first row, which fits one screen: how callers fare."""

from parts import (
    AT_ONCE,
    BLUE,
    FAILED,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    QUANTILES,
    RED,
    SERVED,
    YELLOW,
    by_name,
    coloured,
    common_rate,
    lines,
    mine,
    or_none,
    or_zero,
    query,
    rate,
    stat,
    steps,
    table,
)

FAILING = or_zero(f"sum({rate('problems_total', type=FAILED)})")
PAGES = common_rate(
    "http_server_request_duration_seconds_bucket",
    http_request_method="GET|HEAD",
    http_response_status_code="2..|304",
)


def at_once(q):
    """Answers from memory are the quick ones: of all that were served, the first AT_ONCE / SERVED."""
    return f"histogram_quantile(scalar({q} * {AT_ONCE} / {SERVED} > 0), sum by (le) {PAGES})"


def after_a_wait(q):
    """And those that waited are the rest."""
    return f"histogram_quantile(scalar(1 - {round(1 - q, 3)} * (1 - {AT_ONCE} / {SERVED}) < 1), sum by (le) {PAGES})"


def age(q):
    return f"histogram_quantile({q}, sum by (le) ({rate('served_age_seconds_bucket')}))"


ANSWERS = [
    stat(
        "Answered",
        "percentunit",
        "Share of the requests that could be answered and were. Normal: 99.9 % or more. Below: see Failures for the name, and the "
        "alert ContactsGatewayAnswersFailing for what to do. Refusals that callers cause (no token, bad path, quota) do not count.",
        f"{SERVED} / ({SERVED} + {FAILING})",
        steps(RED, (0.99, ORANGE), (0.999, GREEN)),
        max=1,
        decimals=2,
    ),
    stat(
        "Answered at once",
        "percentunit",
        "Share of the answers that came from memory, waiting for no call to the vendor. Normal: above 90 % once the pages are in "
        "memory; low for some minutes after a start. Low for long: pages are dropped for want of room (Cache), or read only once.",
        f"{AT_ONCE} / {SERVED}",
        steps(ORANGE, (0.5, YELLOW), (0.8, GREEN)),
        max=1,
        decimals=1,
    ),
    stat(
        "Age served, p90",
        "s",
        "Nine of ten answers are younger. Normal: about cache.fresh_for (60 s), some minutes where lists are many. Red from half an "
        "hour on: see Allowance and Vendor for which of them is short, and the alert ContactsGatewayAnswersOld.",
        age(0.9),
        steps(GREEN, (600, ORANGE), (1800, RED)),
    ),
    stat(
        "Allowance left",
        "percentunit",
        "Calls that may still be made in the window, of the account that has the fewest. Normal: anything above 10 %. Near 0: pages "
        "are refreshed less often than wanted and grow older, and new ones have to wait. See the row Allowance.",
        f"min({mine('allowance_remaining', account='$account')} / {mine('allowance_limit', account='$account')})",
        steps(RED, (0.05, ORANGE), (0.1, GREEN)),
        max=1,
        decimals=0,
        noValue="no account yet",
    ),
    stat(
        "Vendor's calls gone well",
        "percentunit",
        "Share of the calls to the vendor that brought what they were made for. Normal: 100 %. Below: see Vendor for the outcome. "
        "Callers are still answered from memory while this is red; Answered says whether they are.",
        f"sum({rate('upstream_calls_total', outcome='ok|passed')}) / sum({rate('upstream_calls_total')})",
        steps(RED, (0.9, ORANGE), (0.99, GREEN)),
        max=1,
        decimals=0,
        noValue="no calls",
    ),
    stat(
        "Busiest caller",
        "reqps",
        "Who asks most, and how often; without [[callers]] everybody is anonymous. Normal: whom you expect. A service that dwarfs the "
        "others for no reason is in a loop most of the time: see Callers, and give it requests_per_minute.",
        f"topk(1, sum by (caller) ({rate('caller_requests_total')}))",
        steps(BLUE),
        legend="{{caller}}",
        text="value_and_name",
    ),
    lines(
        "Requests, by status",
        "reqps",
        "Everything that callers sent, by what it was answered with. Normal: green. 4xx are mistakes and quotas of callers; 5xx are "
        "failures that callers did not cause: Failures has their names.",
        [
            query(
                f"sum by (http_response_status_code) {common_rate('http_server_request_duration_seconds_count')}",
                "{{http_response_status_code}}",
            )
        ],
        [
            coloured("2..", GREEN),
            coloured("304", "light-green"),
            coloured("4..", YELLOW),
            coloured("429", BLUE),
            coloured("5..", RED),
        ],
        stacked=True,
    ),
    lines(
        "What served them",
        "reqps",
        "Answers by where they came from: hit (fresh, from memory), stale (older than fresh, from memory, a refresh follows), miss (a "
        "call), collapsed (another's call), revalidated (a call, unchanged). Normal: mostly hit. Much stale: Allowance or Vendor is short.",
        [query(f"sum by (result) ({rate('cache_requests_total')})", "{{result}}")],
        [
            coloured("hit", GREEN),
            coloured("stale", YELLOW),
            coloured("miss", ORANGE),
            coloured("collapsed", BLUE),
            coloured("revalidated", PURPLE),
            coloured("bypass", GREY),
        ],
        stacked=True,
    ),
    lines(
        "Failures",
        "reqps",
        "Requests that failed through no fault of the callers, by the failure's name; the README's table says what each means. Normal: "
        "none. upstream-… and credentials-refused: see Vendor. allowance-spent: Allowance. What callers cause is in Callers.",
        [query(or_none(f"sum by (type) ({rate('problems_total', type=FAILED)})", "type"), "{{type}}")],
        [
            coloured("none", GREEN),
            coloured("upstream-failed", RED),
            coloured("upstream-timed-out", ORANGE),
            coloured("upstream-garbled", YELLOW),
            coloured("upstream-resting", "dark-red"),
            coloured("upstream-refused", PURPLE),
            coloured("allowance-spent", BLUE),
        ],
        stacked=True,
    ),
    lines(
        "Age served",
        "s",
        "How old pages were when they were served. Normal: p50 within cache.fresh_for (60 s). All rising together: the vendor is away "
        "(Vendor), or all accounts are paused. The dashed lines: ten minutes, and half an hour, from which on it is alerted.",
        [query(age(0.5), "p50"), query(age(0.9), "p90"), query(age(0.99), "p99")],
        QUANTILES,
        size=(6, 8),
        thresholds=steps("transparent", (600, ORANGE), (1800, RED)),
    ),
    lines(
        "Latency at once",
        "s",
        "How long answers from memory took: the quickest part of all answers, as large as the part that memory served. Normal: far "
        "below 1 ms. More: the processor is short (Process). In an outage, answers that waited before an old page was served count too.",
        [query(at_once(0.5), "p50"), query(at_once(0.9), "p90"), query(at_once(0.99), "p99")],
        QUANTILES,
        size=(6, 8),
    ),
    lines(
        "Latency after a wait",
        "s",
        "How long the other answers took, which waited for a call to the vendor. Normal: the vendor's own latency, below 1 s. Higher "
        "than Vendor's: callers wait for their turn, so see Allowance. At most listen.deadline (15 s).",
        [query(after_a_wait(0.5), "p50"), query(after_a_wait(0.9), "p90"), query(after_a_wait(0.99), "p99")],
        QUANTILES,
        size=(6, 8),
    ),
    table(
        "Alerts that fire",
        "The alerts of the chart that fire now; empty is normal, and also what is seen where its rules are not installed. What each "
        "means and what to do stands under its name in the README's Alerts section.",
        'sum by (alertname, severity, namespace) (ALERTS{alertname=~"ContactsGateway.+", alertstate="firing", namespace=~"$namespace"})',
        {"severity": "severity", "alertname": "alert", "namespace": "namespace"},
        (6, 8),
        "none",
        [
            by_name(
                "severity",
                custom__cellOptions={"type": "color-text"},
                custom__width=80,
                mappings=[
                    {
                        "type": "value",
                        "options": {
                            "critical": {"color": RED, "index": 0},
                            "warning": {"color": ORANGE, "index": 1},
                            "info": {"color": BLUE, "index": 2},
                        },
                    }
                ],
            )
        ],
    ),
]
