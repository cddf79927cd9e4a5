"""Pages that are in memory: the gateway, other caching proxies, and bare hyper, which is the limit."""

from .contestants import ask
from .load import say, steady, wrk
from .report import median, setting, span
from .vendor import page, path

HEADER = (
    ["{} contacts, {:,} bytes", "requests/s", "of bare hyper's", "p50 / p99 ms"]
    + ["1 caller p50 µs", "CPU µs/request", "bare hyper's part of it"]
)


def hits(stage, report):
    options, vendor = stage.options, stage.vendor
    proxies = [stage.gateway(), *stage.peers(*options.only)]
    report.say(
        f"Hits. {setting(options, *options.only)} Server on one core, wrk with 64 connections on another; {options.seconds} s, rounds: "
        f"{options.rounds}; medians (least–most). Ratios are of each round; CPU is the server's, kernel included."
    )
    for size in options.sizes:
        say(f"{size} contacts")
        where, want = path(size), page(size)
        servers = [stage.bare(size), *proxies]
        for server in servers:
            ask(server.port, where, server.headers)
            same(report, server, where, want)
        before = vendor.calls
        alone = {server.name: wrk(server, where, min(2, options.seconds), 1) for server in servers}
        rounds = [{server.name: steady(server, where, options.seconds) for server in servers} for _ in range(options.rounds)]
        for server in servers:
            same(report, server, where, want)
            for seen in [alone[server.name], *(one[server.name] for one in rounds)]:
                report.check(not seen["errors"], f"{server.name}: {seen['errors']} errors")
                report.check(seen["bytes"] >= seen["requests"] * len(want), f"{server.name}: short answers")
        asked = vendor.calls - before
        report.check(not asked, f"{size} contacts: the vendor was asked {asked} times: not all were hits")
        report.table([HEADER[0].format(size, len(want)), *HEADER[1:]], rows(alone, rounds))
        busy = median(one["bare hyper"]["wrk_busy"] for one in rounds)
        if busy > 0.9:
            report.say(f"wrk's core was {busy:.0%} busy with bare hyper: those requests/s are wrk's limit as well, that CPU is not.")
    report.table(["", "peak memory, MiB"], [[server.name, f"{server.memory('VmHWM') / 1024:.0f}"] for server in proxies])
    report.check(vendor.exports, "no span reached the collector")
    return report.end(
        "no errors, bodies are the vendor's to the byte before and after, the vendor was not asked meanwhile, and the gateway "
        "exported spans"
    )


def same(report, server, where, want):
    """A hit, byte for byte."""
    status, fields, body = ask(server.port, where, server.headers)
    report.check((status, body) == (200, want), f"{server.name}: {status} and {len(body)} bytes, not the vendor's {len(want)}")
    if server.name == "contacts-gateway":
        report.check("Age" in fields and "; hit" in fields["Cache-Status"], f"{server.name}: not a hit: {fields['Cache-Status']}")


def rows(alone, rounds):
    # By what is least disturbed by whatever else the machine does.
    names = sorted(alone, key=lambda name: median(one[name]["cpu"] for one in rounds))
    for name in names:
        seen, limit = [one[name] for one in rounds], [one["bare hyper"] for one in rounds]
        yield [
            f"**{name}**" if name == "contacts-gateway" else name,
            span([one["rate"] for one in seen], ",.0f"),
            f"{median(one['rate'] / most['rate'] for one, most in zip(seen, limit)):.2f}",
            " / ".join(f"{median(one[part] for one in seen) / 1000:.2f}" for part in ("p50", "p99")),
            f"{alone[name]['p50']}",
            f"{median(one['cpu'] for one in seen) * 1e6:.1f}",
            f"{median(most['cpu'] / one['cpu'] for one, most in zip(seen, limit)):.2f}",
        ]
