"""Many callers at once ask for a page that is not in memory, while the vendor takes its time."""

from .load import crowd, say
from .report import median, setting
from .vendor import page, path

CALLERS, CONTACTS, DELAY = 500, 50, 0.3
HEADER = (
    ["{} callers at once, the vendor takes {:.0f} ms", "calls at the vendor", "right answers"]
    + ["median answer ms", "last answer ms"]
)


def stampede(stage, report):
    options, vendor = stage.options, stage.vendor
    peers = [name for name in options.only if name != "haproxy"]  # which lets every caller through
    servers = [stage.gateway(), *stage.peers(*peers)]
    vendor.delay = DELAY
    report.say(
        f"Stampede. {setting(options, *peers)} Server on one core, callers and vendor on another; rounds: {options.rounds}, each on a "
        "list not asked for before; medians."
    )
    rounds = []
    for turn in range(options.rounds):
        say(f"round {turn + 1}")
        rounds.append([once(vendor, server, f"cold{turn}") for server in servers])
    rows = []
    for number, server in enumerate(servers):
        calls, right, middle, last = zip(*(one[number] for one in rounds))
        report.check(min(right) == CALLERS, f"{server.name}: {min(right)} of {CALLERS} answers are right")
        name = f"**{server.name}**" if number == 0 else server.name
        rows.append([name, ", ".join(map(str, calls)), f"{min(right)}", f"{median(middle) * 1000:.0f}", f"{median(last) * 1000:.0f}"])
    report.table([HEADER[0].format(CALLERS, DELAY * 1000), *HEADER[1:]], rows)
    return report.end("every caller got the vendor's page, byte for byte")


def once(vendor, server, tag):
    """Calls at the vendor, right answers, the median answer's time and the last one's."""
    before = vendor.calls
    answers = crowd(server, path(CONTACTS, tag), CALLERS, page(CONTACTS))
    times = [time for time, _ in answers]
    return vendor.calls - before, sum(right for _, right in answers), median(times), times[-1]
