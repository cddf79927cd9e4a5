"""Callers who keep their connection and say nothing: the memory that each costs."""

import resource

from .contestants import ask
from .load import closed, connected
from .processes import Failed
from .report import met, setting
from .vendor import page, path

CONNECTIONS, CONTACTS = 10_000, 50
SPARE = 200  # files that are open otherwise, on either side
MOST = 12  # KiB a connection


def idle(stage, report):
    raise_limit(CONNECTIONS + SPARE)
    servers = [stage.gateway(), stage.bare(CONTACTS)]
    report.say(
        f"Idle connections. {setting(stage.options)} {CONNECTIONS:,} of them, each of which has had an answer of {CONTACTS} contacts."
    )
    where, length = path(CONTACTS), len(page(CONTACTS))
    costs = []
    for server in servers:
        ask(server.port, where, server.headers)
        before = server.memory()
        held = connected(server, where, CONNECTIONS, length)
        costs.append((server.memory() - before) / CONNECTIONS)
        report.check(not closed(held), f"{server.name}: {closed(held)} of the connections were closed")
        for one in held:
            one.close()
    report.table(
        ["", "KiB resident a connection", f"at most {MOST} are meant"],
        [
            [f"**{servers[0].name}**", f"{costs[0]:.1f}", met(costs[0] <= MOST)],
            [servers[1].name, f"{costs[1]:.1f}", ""],
        ],
    )
    return report.end("every connection was answered, and none was closed")


def raise_limit(files):
    """Ours, which the servers get from us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, most)))
    except ValueError:
        raise Failed(f"{files} open files are needed, and {most} allowed: ulimit -Hn") from None
