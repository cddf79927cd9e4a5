# What there is to do here; CI calls the same scripts.
default:
    @{{ just_executable() }} --list --unsorted

# All of CI, on this machine
check:
    .ci/run

# Formatting, lints, documentation, dependencies
lint:
    tests/run lint

# The tests alone
test:
    tests/run tests

# The dashboard: written, compared with Grafana's own types, drawn from what a real Prometheus saw
dashboard:
    .ci/dashboard

# What the gateway makes of the allowance, beside nginx where that is installed: minutes
allowance *runs:
    cargo bench --locked --bench allowance -- {{ runs }}

# The gateway beside other proxies and bare hyper: hits; or misses, stampede, idle, start
compare *what:
    tests/bench/run {{ what }}

# The gateway, with flags for it
run *flags:
    cargo run --release --locked -- {{ flags }}

# The gateway before a stand-in vendor: nothing to configure
demo:
    cargo run --release --locked -- demo

# The container image, by docker, podman or buildah
image engine="docker" tag="contacts-gateway:dev":
    .ci/image {{ quote(engine) }} {{ quote(tag) }}

# The settings' schema in the chart's, after settings changed
chart-schema:
    .ci/chart-schema

# The chart's golden renders, after the chart changed: read the difference
chart-golden:
    cargo build --locked
    target/python/bin/python tests/helm/check.py target/debug/contacts-gateway --write
