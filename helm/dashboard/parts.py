"""What panels are made of: expressions, and the kinds of panels with all that those of a kind have in common."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
BLUE, PURPLE, GREY = "blue", "purple", "text"

# Our own metrics are ours wherever they come from. Those that go by OpenTelemetry's and Prometheus' common names may come
# from the application in the same pod as well: only targets that are gateways count.
MINE = 'namespace=~"$namespace", pod=~"$pod"'
OF_GATEWAYS = "and on (job, instance) contacts_gateway_build_info{%s}" % MINE

# Failures that callers suffer and did not cause: what the alerts count too.
FAILED = "internal|overloaded|credentials-refused|allowance-spent|upstream-.+"
# Failures that callers cause.
REFUSED = "bad-request|caller-.+|not-found|stream-unknown|method-not-allowed|misdirected|not-cached"


def matching(labels):
    return [f'{label}=~"{pattern}"' for label, pattern in labels.items()]


def mine(metric, **labels):
    return f"contacts_gateway_{metric}{{{', '.join([MINE, *matching(labels)])}}}"


def rate(metric, **labels):
    return f"rate({mine(metric, **labels)}[$__rate_interval])"


def common_rate(metric, **labels):
    chosen = ", ".join(matching(labels))
    return f"(rate({metric}{{{chosen}}}[$__rate_interval]) {OF_GATEWAYS})"


def or_zero(expression):
    """For sums over series that are not there before something happened."""
    return f"({expression} or vector(0))"


def or_none(expression, label):
    """For what is told apart by a label, and had better not be there: what is, or a line at 0 that says "none"."""
    return f'{expression} > 0 or label_replace(vector(0), "{label}", "none", "", "")'


# --- What panels are made of.


def query(expr, legend="", instant=False):
    how = {"instant": True, "range": False, "format": "table"} if instant else {"range": True}
    return {"expr": expr, "legendFormat": legend, **how}


def steps(base, *above):
    """Thresholds: a colour, and from which value on another."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}] + [{"color": c, "value": v} for v, c in above],
    }


def coloured(name, colour, *more):
    """A series of that name (or names, by pattern) in a colour of its own."""
    pattern = {"id": "byRegexp", "options": f"/^({name})$/"}
    colour = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
    return {"matcher": pattern, "properties": [colour, *more]}


def by_name(name, **properties):
    found = {"id": "byRegexp", "options": f"/^({name})$/"}
    return {"matcher": found, "properties": [{"id": i.replace("__", "."), "value": v} for i, v in properties.items()]}


def panel(kind, title, unit, description, queries, size, options, defaults, overrides=()):
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "editorMode": "code", **q} for n, q in enumerate(queries)
        ],
        "options": options,
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": list(overrides)},
    }


def stat(title, unit, description, expr, thresholds, legend="", text="value", **defaults):
    options = {
        "colorMode": "background_solid" if text == "value" else "value",
        "graphMode": "area" if text == "value" else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": text,
        "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    defaults = {"thresholds": thresholds, "color": {"mode": "thresholds"}, "noValue": "no traffic", **defaults}
    return panel("stat", title, unit, description, [query(expr, legend)], (4, 4), options, defaults)


def lines(title, unit, description, queries, overrides=(), size=(8, 7), stacked=False, bars=False, **defaults):
    options = {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1 if stacked or bars else 2,
        "fillOpacity": 60 if stacked or bars else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    thresholds = defaults.pop("thresholds", None)
    if thresholds:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    defaults = {"custom": custom, "color": {"mode": "palette-classic"}, **defaults}
    if thresholds:
        defaults["thresholds"] = thresholds
    defaults.setdefault("min", 0)
    return panel("timeseries", title, unit, description, queries, size, options, defaults, overrides)


def states(title, description, queries, mappings, size):
    options = {
        "showValue": "never",
        "mergeValues": True,
        "rowHeight": 0.8,
        "alignValue": "left",
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    options_of = {str(value): {"text": text, "color": colour, "index": value} for value, text, colour in mappings}
    colours = steps(mappings[0][2], *((value, colour) for value, _, colour in mappings[1:]))
    defaults = {
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "color": {"mode": "thresholds"},
        "thresholds": colours,
        "mappings": [{"type": "value", "options": options_of}],
    }
    return panel("state-timeline", title, "bool", description, queries, size, options, defaults)


def table(title, description, expr, columns, size, no_value, overrides=()):
    """What there is at the end of the time range; `columns` are labels."""
    built = panel(
        "table",
        title,
        "short",
        description,
        [query(expr, instant=True)],
        size,
        {"showHeader": True, "cellHeight": "sm"},
        {"noValue": no_value, "custom": {"align": "auto"}},
        overrides,
    )
    kept = {"include": {"names": list(columns)}}
    named = {"indexByName": {c: n for n, c in enumerate(columns)}, "renameByName": dict(columns)}
    built["transformations"] = [
        {"id": "filterFieldsByName", "options": kept},
        {"id": "organize", "options": {"excludeByName": {}, **named}},
    ]
    return built


# --- What more than one row asks for.

SERVED = f"sum({rate('cache_requests_total')})"
AT_ONCE = f"sum({rate('cache_requests_total', result='hit|stale')})"

QUANTILES = [coloured("p50", BLUE), coloured("p90", YELLOW), coloured("p99", RED)]
