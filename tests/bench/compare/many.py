"""A hit among a million small pages beside one among a thousand, and the memory that pages take: what grows with the cache is that the
processor's own caches hold none of what a hit needs."""

import re

from .contestants import NO_LIMIT, ask
from .load import say, wrk
from .misses import results
from .processes import LOAD
from .report import median, met, setting, span
from .vendor import page, path

FEW, MANY = 1_000, 1_000_000
ENTRIES = re.compile(r"^contacts_gateway_cache_entries (\d+)", re.M)
MOST_TIMES, MOST_BYTES = 1.25, 400  # one hit's CPU to the other's; beside the body of an entry


def many(stage, report):
    options = stage.options
    report.say(
        f"Hits among {MANY:,} pages of one list, each asked for as often as any other, and among {FEW:,}. {setting(options)} wrk with 64 "
        f"connections; {options.seconds} s by turns, rounds: {options.rounds}; medians (least–most)."
    )
    vendor, where, body = stage.bare(0, core=LOAD).port, path(0), page(0)
    few, many = (stage.gateway(NO_LIMIT, vendor=vendor, max_bytes="4GiB") for _ in range(2))
    fill(few, where, FEW)
    empty = many.memory()
    fill(many, where, MANY)
    each = (many.memory() - empty) * 1024 / entries(many) - len(body)
    worlds = {FEW: few, MANY: many}
    before = [results(server) for server in worlds.values()]
    rounds = [
        {pages: wrk(server, where, options.seconds, 64, "among", str(pages)) for pages, server in worlds.items()}
        for _ in range(options.rounds)
    ]
    after = [results(server) for server in worlds.values()]
    for was, now in zip(before, after):
        others = {result: count for result, count in now.items() if result != "hit" and count > was[result]}
        report.check(not others, f"not all were hits: {others}")
    errors = sum(seen["errors"] for one in rounds for seen in one.values())
    report.check(not errors, f"{errors} errors")

    cpu = {pages: [one[pages]["cpu"] * 1e6 for one in rounds] for pages in worlds}
    times = median(most / least for least, most in zip(cpu[FEW], cpu[MANY]))
    report.table(
        ["", f"among {FEW:,}", f"among {MANY:,}", "meant", "met"],
        [
            ["CPU µs/hit", *(span(seen, ".1f") for seen in cpu.values()), "", ""],
            ["times the first", "1.00", f"{times:.2f}", f"≤ {MOST_TIMES}", met(times <= MOST_TIMES)],
            ["bytes a page beyond its body", "", f"{each:.0f}", f"≤ {MOST_BYTES}", met(each <= MOST_BYTES)],
        ],
    )
    return report.end("no errors, and every request that was measured was a hit")


def fill(server, where, pages):
    """Asks for one page after the other until all are there. A run of wrk ends with some that it has asked for in vain."""
    while (there := entries(server)) < pages:
        say(f"   {there:,} pages of {pages:,}")
        wrk(server, where, 5, 64, "fill", str(pages), str(max(0, there - 64)))


def entries(server):
    return int(ENTRIES.search(ask(server.admin, "/metrics")[2].decode())[1])
