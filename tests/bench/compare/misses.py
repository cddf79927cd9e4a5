"""Pages that are in nobody's memory: what it costs the gateway to fetch one, judge it, keep it and pass it on, beside HAProxy,
which only passes it on. The vendor is bare hyper, so that it is not what is waited for."""

import re

from .contestants import NO_LIMIT, ask, which
from .load import say, steady, wrk
from .processes import LOAD, Failed
from .report import median, met, setting, span
from .vendor import page, path

RESULTS = re.compile(r'^contacts_gateway_cache_requests_total\{result="(\w+)"\} (\d+)', re.M)
HEADER = ["{} contacts, {:,} bytes", "CPU µs/miss", "haproxy's times", "p50 / p99 ms", "1 caller p50 µs", "misses/s"]
MOST = 2  # times HAProxy's CPU


def misses(stage, report):
    options = stage.options
    if not which("haproxy"):
        raise Failed("haproxy, which misses are compared with, is not in PATH: install it (Debian: apt-get install haproxy)")
    report.say(
        f"Misses. {setting(options, 'haproxy')} Server on one core, the vendor and wrk with 64 connections on another; every request "
        f"asks for another page; {options.seconds} s, rounds: {options.rounds}; medians (least–most). HAProxy keeps nothing."
    )
    for size in options.sizes:
        say(f"{size} contacts")
        one_size(stage, report, size)
    return report.end("no errors, bodies are the vendor's to the byte, and every request that was measured was a miss")


def one_size(stage, report, size):
    seconds, want, where = stage.options.seconds, page(size), path(size)
    vendor = stage.bare(size, core=LOAD).port
    gateway = stage.gateway(NO_LIMIT, vendor=vendor)
    servers = [gateway, stage.peer("haproxy", vendor, cached=False)]
    before = results(gateway)
    alone = [wrk(server, where, min(2, seconds), 1, "misses") for server in servers]
    rounds = [[steady(server, where, seconds, "misses") for server in servers] for _ in range(stage.options.rounds)]
    after = results(gateway)
    for number, server in enumerate(servers):
        seen = [alone[number], *(one[number] for one in rounds)]
        errors = sum(one["errors"] for one in seen)
        report.check(not errors, f"{server.name}: {errors} errors")
        status, _, body = ask(server.port, where, server.headers)
        report.check((status, body) == (200, want), f"{server.name}: {status} and {len(body)} bytes, not the vendor's {len(want)}")
    others = {result: count - before[result] for result, count in after.items() if result != "miss" and count > before[result]}
    report.check(not others, f"contacts-gateway: not all were misses: {others}")

    ratio = median(ours["cpu"] / theirs["cpu"] for ours, theirs in rounds)
    report.table(
        [HEADER[0].format(size, len(want)), *HEADER[1:]],
        (
            [
                f"**{server.name}**" if server is gateway else server.name,
                span([one[number]["cpu"] * 1e6 for one in rounds], ".1f"),
                f"{ratio:.2f}" if server is gateway else "1.00",
                " / ".join(f"{median(one[number][part] for one in rounds) / 1000:.2f}" for part in ("p50", "p99")),
                f"{alone[number]['p50']}",
                span([one[number]["rate"] for one in rounds], ",.0f"),
            ]
            for number, server in enumerate(servers)
        ),
    )
    report.say(f"At most {MOST} times HAProxy's CPU is meant: {met(ratio <= MOST)}.")


def results(gateway):
    """How the cache came by its answers so far."""
    told = ask(gateway.admin, "/metrics")[2].decode()
    return {result: int(count) for result, count in RESULTS.findall(told)}
