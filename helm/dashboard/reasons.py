"""The rows below the first: why callers fare as they do."""

from parts import (
    AT_ONCE,
    BLUE,
    GREEN,
    GREY,
    OF_GATEWAYS,
    ORANGE,
    PURPLE,
    QUANTILES,
    RED,
    REFUSED,
    SERVED,
    YELLOW,
    coloured,
    common_rate,
    lines,
    mine,
    or_none,
    or_zero,
    query,
    rate,
    states,
    steps,
    table,
)


def vendor(q):
    return f"histogram_quantile({q}, sum by (le) {common_rate('http_client_request_duration_seconds_bucket')})"


ALLOWANCE = [
    lines(
        "Calls left",
        "short",
        "Calls that accounts may still make in the window, of the ten that have fewest. Normal: it goes up and down and is seldom 0. At 0 "
        "for long: lists are more than the allowance can keep fresh; raise cache.fresh_for, or have fewer lists read.",
        [query(f"bottomk(10, min by (account) ({mine('allowance_remaining', account='$account')}))", "{{account}}")],
        size=(6, 7),
        decimals=0,
    ),
    lines(
        "Calls spent",
        "reqpm",
        "Calls to the vendor by why they were made: miss (a caller waited), refresh (a page was no longer fresh), revalidate (the vendor "
        "was asked whether it still holds). Normal: mostly refresh. Mostly miss for long: pages are dropped too early (Cache).",
        [query(f"60 * sum by (reason) ({rate('upstream_calls_total')})", "{{reason}}")],
        [coloured("miss", ORANGE), coloured("refresh", GREEN), coloured("revalidate", PURPLE)],
        size=(6, 7),
        stacked=True,
    ),
    lines(
        "Waiting",
        "short",
        "Callers who wait for an account's next call, and pages that wait for a refresh. Normal: callers none or few, pages up and down. "
        "Pages rising: more is read than the allowance keeps fresh. Callers for long: new pages are more than there are calls.",
        [
            query(f"sum({mine('allowance_waiting', account='$account')})", "callers"),
            query(f"sum({mine('allowance_wanted', account='$account')})", "pages"),
        ],
        [coloured("callers", RED), coloured("pages", YELLOW)],
        size=(6, 7),
        decimals=0,
    ),
    lines(
        "Limit, as learnt",
        "short",
        "Calls in a window that accounts allow themselves, the ten lowest. Normal: allowance.calls (59). Lower: the vendor refused, so somebody else "
        "spends calls of that account; it comes back by itself ten minutes after the last refusal. Find who has the account's secret.",
        [query(f"bottomk(10, min by (account) ({mine('allowance_limit', account='$account')}))", "{{account}}")],
        size=(6, 7),
        decimals=0,
    ),
    states(
        "Accounts that pause",
        "Red: no calls are made for this account, after a refusal (allowance.pause) or three failures in a row (10 s); pages in memory "
        "are served all the same. Normal: green. Red again and again: see Refusals beside this, and Vendor.",
        [query(f"topk(10, max by (account) ({mine('allowance_paused', account='$account')}))", "{{account}}")],
        [(0, "calls go", GREEN), (1, "paused", RED)],
        (8, 7),
    ),
    lines(
        "Refusals",
        "short",
        "Calls that the vendor refused for its rate limit. Normal: none. Some each hour: somebody else uses the account, or replicas do "
        "not share its allowance; lower allowance.calls to what is really yours. The alert is ContactsGatewayVendorRefusing.",
        [query(f"sum(increase({mine('upstream_refusals_total')}[$__rate_interval]))", "refused")],
        [coloured("refused", PURPLE)],
        bars=True,
    ),
    lines(
        "Stretch of freshness",
        "percentunit",
        "Share of the answers that were past their freshness, and (right) answers of that kind for each refresh that went well. Normal: "
        "below 20 %, and few. Many: a page is served that often between being wanted anew and being fetched; see Calls left.",
        [
            query(f"sum({rate('cache_requests_total', result='stale')}) / {SERVED}", "past freshness"),
            query(
                f"sum({rate('cache_requests_total', result='stale')}) / "
                f"(sum({rate('upstream_calls_total', reason='refresh|revalidate', outcome='ok')}) > 0)",
                "answers a refresh",
            ),
        ],
        [
            coloured("past freshness", YELLOW),
            coloured("answers a refresh", BLUE, {"id": "unit", "value": "short"}, {"id": "custom.axisPlacement", "value": "right"}),
        ],
    ),
]

OUTCOMES = [
    coloured("ok", GREEN),
    coloured("passed", BLUE),
    coloured("upstream-refused", PURPLE),
    coloured("credentials-refused", "dark-red"),
    coloured("upstream-failed", RED),
    coloured("upstream-timed-out", ORANGE),
    coloured("upstream-garbled", YELLOW),
]

VENDOR = [
    lines(
        "Calls, by outcome",
        "reqpm",
        "How calls ended. Normal: ok, and passed (404 and 400 of the vendor's own, passed on). upstream-refused: Allowance. "
        "credentials-refused: beside this. The others are the vendor's or the network's: the log has a line for each call.",
        [query(f"60 * sum by (outcome) ({rate('upstream_calls_total')})", "{{outcome}}")],
        OUTCOMES,
        stacked=True,
    ),
    lines(
        "Latency of calls",
        "s",
        "How long calls took, to the last byte. Normal: some hundred milliseconds. Above 2.5 s for long it is alerted "
        "(ContactsGatewayVendorSlow): callers are served old pages meanwhile; at upstream.timeout (10 s) a call has failed.",
        [query(vendor(0.5), "p50"), query(vendor(0.9), "p90"), query(vendor(0.99), "p99")],
        QUANTILES,
        thresholds=steps("transparent", (2.5, RED)),
    ),
    lines(
        "Credentials",
        "reqpm",
        "Tokens that were signed, and calls whose token the vendor did not accept. Normal: a token every few minutes for each app, and no "
        "red. Red: the secret was changed or the app disabled; see ContactsGatewayCredentialsRefused.",
        [
            query(f"60 * sum by (algorithm) ({rate('tokens_minted_total')})", "tokens, {{algorithm}}"),
            query("60 * " + or_zero(f"sum({rate('upstream_calls_total', outcome='credentials-refused')})"), "refused"),
        ],
        [coloured("tokens, .*", BLUE), coloured("refused", RED)],
    ),
]

CACHE = [
    lines(
        "Size",
        "bytes",
        "Memory that pages take, all pods together, of what they may take (cache.max_bytes), and (right) how many entries there are. "
        "Normal: flat, below the dark line. At it, with evictions for size: raise cache.max_bytes.",
        [
            query(f"sum({mine('cache_bytes')})", "bytes"),
            query(f"sum({mine('cache_max_bytes')})", "at most"),
            query(f"sum({mine('cache_entries')})", "entries"),
        ],
        [
            coloured("bytes", BLUE),
            coloured("at most", "dark-red"),
            coloured("entries", GREEN, {"id": "unit", "value": "short"}, {"id": "custom.axisPlacement", "value": "right"}),
        ],
        size=(6, 7),
    ),
    lines(
        "Hit ratio",
        "percentunit",
        "Share of reads that memory answered: all of them, and those that were still fresh. Normal: above 90 %, and fresh close to it. "
        "The gap between the two is what the allowance did not suffice for.",
        [
            query(f"{AT_ONCE} / {SERVED}", "from memory"),
            query(f"sum({rate('cache_requests_total', result='hit')}) / {SERVED}", "fresh"),
        ],
        [coloured("from memory", YELLOW), coloured("fresh", GREEN)],
        size=(6, 7),
        max=1,
    ),
    lines(
        "Evictions",
        "cps",
        "Entries dropped: expired (too old to be of use), explicit (purged), size (no room). Normal: expired and explicit. Size: "
        "pages are fetched again that were here; raise cache.max_bytes.",
        [query(f"sum by (cause) ({rate('cache_evictions_total')})", "{{cause}}")],
        [coloured("size", RED), coloured("expired", BLUE), coloured("explicit", GREEN)],
        size=(6, 7),
    ),
    lines(
        "Collapsed",
        "reqps",
        "Reads that joined a call already on its way: calls to the vendor saved. Normal: rises with reads of new or old pages at the same "
        "moment. Much of it for long: the vendor is slow, or hot pages are dropped.",
        [query(f"sum({rate('cache_requests_total', result='collapsed')})", "collapsed")],
        [coloured("collapsed", BLUE)],
        size=(6, 7),
    ),
]

CALLERS = [
    lines(
        "Top talkers",
        "reqps",
        "The ten callers who ask most. Normal: steady. A sudden step is a new release or a loop of that service: talk to its people, "
        "and give its [[callers]] entry requests_per_minute.",
        [query(f"topk(10, sum by (caller) ({rate('caller_requests_total')}))", "{{caller}}")],
        stacked=True,
        size=(6, 7),
    ),
    lines(
        "Quota refusals",
        "reqpm",
        "What callers' quotas refused, or would have with dry_run: requests (answered 429) and fetches (answered from memory where "
        "possible). Normal: none. For long: the caller asks too much, or its quota is too small.",
        [query(or_none(f"60 * sum by (caller, kind) ({rate('quota_refusals_total')})", "caller"), "{{caller}} {{kind}}")],
        [coloured("none .*", GREEN)],
        size=(6, 7),
    ),
    lines(
        "Callers' mistakes",
        "reqpm",
        "Requests refused for what they are: caller-unknown (neither token nor certificate, or a wrong one), caller-forbidden, "
        "stream-unknown, bad-request and so on. Normal: next to none. A step after a release: that service's token or URL is wrong.",
        [query(or_none(f"60 * sum by (type) ({rate('problems_total', type=REFUSED)})", "type"), "{{type}}")],
        [
            coloured("none", GREEN),
            coloured("caller-unknown", ORANGE),
            coloured("bad-request", YELLOW),
            coloured("caller-forbidden", RED),
        ],
        stacked=True,
        size=(6, 7),
    ),
    lines(
        "Handshakes that failed",
        "cpm",
        "Callers who were turned away before they could ask, over TLS: client_certificate (theirs is missing, expired, or of no authority "
        "in client_ca_file), server_certificate (they do not take ours), failed. Normal: none, or probes that do not speak TLS.",
        [query(f"60 * sum by (outcome) ({rate('handshakes_total', outcome='.*_certificate|failed')})", "{{outcome}}")],
        [coloured("client_certificate", ORANGE), coloured("server_certificate", RED), coloured("failed", YELLOW)],
        size=(6, 7),
    ),
]

PROCESS = [
    lines(
        "CPU",
        "percentunit",
        "Processor time by pod; 100 % is one core; counted in whole seconds, so it is ragged close up. Normal: a few percent for a thousand "
        "hits a second. At the pod's limit: hits become slow (Latency at once); raise the limit.",
        [query(f"sum by (pod) {common_rate('process_cpu_seconds_total')}", "{{pod}}")],
        size=(6, 7),
    ),
    lines(
        "Memory",
        "bytes",
        "Resident memory by pod. Normal: 10 MiB idle; once the cache is full at most twice cache.max_bytes and 40 MiB, and flat. Rising without an end: keep "
        "a profile and tell the maintainers; the pod's limit ends it.",
        [query(f"sum by (pod) (process_resident_memory_bytes {OF_GATEWAYS})", "{{pod}}")],
        size=(6, 7),
    ),
    lines(
        "Runtime",
        "percentunit",
        "How busy the threads are that requests run on, by pod, and (right) tasks that wait for one. Normal: a few percent, and none. Near "
        "100 % with tasks waiting: there is too little processor; raise the pod's limit.",
        [
            query(f"sum by (pod) ({rate('runtime_busy_seconds_total')} / {mine('runtime_workers')})", "{{pod}}"),
            query(f"sum({mine('runtime_queued_tasks')})", "tasks waiting"),
        ],
        [coloured("tasks waiting", RED, {"id": "unit", "value": "short"}, {"id": "custom.axisPlacement", "value": "right"})],
        size=(6, 7),
    ),
    lines(
        "Connections",
        "short",
        "Open connections of callers, and requests under way, in the pod that has most. Normal: connections as many as callers keep, "
        "requests few. Requests at listen.max_in_flight (1024): refused as overloaded; connections at max_connections: they wait.",
        [query(f"max({mine('connections')})", "connections"), query(f"max(http_server_active_requests {OF_GATEWAYS})", "requests")],
        [coloured("connections", BLUE), coloured("requests", ORANGE)],
        size=(6, 7),
        decimals=0,
    ),
    lines(
        "Open files",
        "percentunit",
        "File descriptors in use, of those that the process may have, by pod. Normal: below 10 %. Near 100 %: no connection can be "
        "taken; raise the limit of files, or lower listen.max_connections.",
        [query(f"sum by (pod) (process_open_fds / process_max_fds {OF_GATEWAYS})", "{{pod}}")],
        size=(4, 7),
        max=1,
    ),
    lines(
        "Running since",
        "s",
        "How long each pod's process has run. Normal: rises; one that falls back to 0 was restarted. Again and again: see the last log "
        "lines of its predecessor (78 as exit code: settings).",
        [query(f"max by (pod) (time() - process_start_time_seconds {OF_GATEWAYS})", "{{pod}}")],
        size=(4, 7),
    ),
    states(
        "Settings",
        "Whether what is written in settings and secrets is what runs. Normal: green. Red: they were read again and had a mistake, so "
        "the earlier ones run on; the log names it, and so does `check`. The alert is ContactsGatewayReloadFailed.",
        [query(f"max by (pod) (1 - {mine('config_last_reload_successful')})", "{{pod}}")],
        [(0, "in effect", GREEN), (1, "reload failed", RED)],
        (4, 7),
    ),
    lines(
        "Reloads",
        "short",
        "How often settings and secrets were read again, by outcome. Normal: ok, at times of a roll-out or a rotation of secrets. Failed: "
        "see Settings beside this.",
        [query(f"sum by (outcome) (increase({mine('config_reloads_total')}[$__rate_interval]))", "{{outcome}}")],
        [coloured("ok", GREEN), coloured("failed", RED)],
        size=(4, 7),
        bars=True,
    ),
    states(
        "Shared store",
        "Whether each pod can ask the store that replicas share. Normal: green, or grey where shared.url is empty. Red: it goes on alone, "
        "with its share of the calls; see the store. The alert is ContactsGatewaySharedStoreAway.",
        [
            query(
                f"max by (pod) ({mine('shared_up')}) * 2 + on (pod) (sum by (pod) (increase({mine('shared_errors_total')}[10m])) > bool 0)",
                "{{pod}}",
            )
        ],
        [(0, "none, or well", GREY), (1, "away", RED), (2, "there", GREEN), (3, "there, with errors", YELLOW)],
        (4, 7),
    ),
    lines(
        "Shared store's errors",
        "cps",
        "What the shared store did not do in time, by what it was asked. Normal: nothing. All of them at once: it is away. One: the log of the store.",
        [query(or_none(f"sum by (operation) ({rate('shared_errors_total')})", "operation"), "{{operation}}")],
        size=(4, 7),
    ),
    lines(
        "Spans",
        "cps",
        "What became of the spans of traced requests: exported; failed (the collector did not take them); dropped (too many waited for it). "
        "Normal: exported alone, or nothing without telemetry.otlp_endpoint. Else traces lack spans; requests do not wait for it.",
        [query(f"sum by (outcome) ({rate('spans_total')})", "{{outcome}}")],
        [coloured("exported", GREEN), coloured("failed", RED), coloured("dropped", ORANGE)],
        size=(4, 7),
    ),
    table(
        "Builds",
        "What runs, and in how many pods. Normal: one version, two during a roll-out.",
        f"count by (version, revision) ({mine('build_info')})",
        {"version": "version", "revision": "revision", "Value": "pods"},
        (4, 7),
        "no gateway is scraped",
    ),
]
