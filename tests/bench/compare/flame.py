"""Where the time of a hit goes: a flame graph as SVG, of what perf sees while wrk asks.

Frames are as wide as the share of samples that are in them, callees on top of callers. What is narrower than MIN is left out,
and of the kernel only what it was asked for is shown.
"""

import html
import os
import re
import subprocess

from .contestants import ask
from .load import steady
from .processes import Failed
from .vendor import path

MIN, WIDTH, ROW = 0.004, 1000, 17
# Whose frames say what is done; those of others are what it is done with, or by.
TELLING = re.compile(r"^<?(dyn )?(contacts_gateway|tower|hyper|http|httparse|moka|uuid|prometheus|aws_lc)[:_]")
CALLS = {"__GI___writev": "writev", "__libc_recv": "recv", "__libc_send": "send", "__send": "send", "epoll_wait": "epoll_wait", "malloc": "malloc", "cfree": "free"}


def flame(stage, report):
    options = stage.options
    gateway = stage.gateway()
    where = path(50)
    for _ in range(2):
        ask(gateway.port, where, gateway.headers)
    data = stage.folder / "perf.data"
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "1499", "--call-graph", "dwarf,16384", "-o", str(data)]
    try:
        recorder = subprocess.Popen([*command, "-p", str(gateway.process.pid), "--", "sleep", str(options.seconds)])
    except FileNotFoundError:
        raise Failed("perf is not there: install linux-perf, and allow it with kernel.perf_event_paranoid = 1") from None
    steady(gateway, where, options.seconds + 1)
    if recorder.wait():
        raise Failed("perf cannot record: set kernel.perf_event_paranoid to 1")
    told = subprocess.run(["perf", "script", "-i", str(data), "--no-inline", "-F", "ip,sym,dso"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    tree, samples = folded(told.stdout)
    if samples < 100 or len(tree) == 0:
        raise Failed(f"perf saw {samples} samples: is the program's table of symbols there? (CARGO_PROFILE_RELEASE_STRIP=none)")
    out = os.path.abspath(options.out)
    with open(out, "w", encoding="utf-8") as svg:
        svg.write(drawn(tree, samples))
    report.say(f"{samples} samples, drawn in {out}.")
    return report.end("a hit with 50 contacts")


def folded(script):
    """A tree of {name: [samples, children]}, and how many samples there are."""
    tree, samples = {}, 0
    for sample in script.split("\n\n"):
        frames = []
        for line in sample.splitlines():
            seen = re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)
            if seen:
                frames.append((seen[1], seen[2]))
        if not frames:
            continue
        samples += 1
        at, last = tree, None
        for name, dso in reversed(frames):
            name = "kernel" if dso.startswith(("[kernel", "[guest")) else named(name)
            if not name or name == last:
                continue
            last = name
            node = at.setdefault(name, [0, {}])
            node[0] += 1
            at = node[1]
            if name == "kernel":
                break
    return tree, samples


def named(symbol):
    """`<a::B<C> as d::E>::f` is B::f, `a::b::C<D>::e` is C::e; nothing where it is not telling."""
    symbol = re.sub(r"\+0x[0-9a-f]+$", "", symbol)
    symbol = re.sub(r"(::h[0-9a-f]{16}|@+GLIBC.*|\.(llvm|constprop|part|isra).*)$", "", symbol)
    if symbol in CALLS:
        return CALLS[symbol]
    if not TELLING.match(symbol):
        return None
    if symbol.startswith("<"):
        owner, _, rest = split(symbol[1:])
        symbol = without(owner.split(" as ")[0]) + rest
    parts = [part for part in without(symbol).split("::") if part and not part.startswith("{")]
    return "::".join(parts[-2:])[:60] or None


def split(text):
    """What stands before the bracket that closes, and after."""
    depth = 1
    for at, letter in enumerate(text):
        depth += {"<": 1, ">": -1}.get(letter, 0) if text[at - 1 : at + 1] != "->" else 0
        if not depth:
            return text[:at], ">", text[at + 1 :]
    return text, "", ""


def without(text):
    """The same without what is in angle brackets."""
    kept, depth = [], 0
    for at, letter in enumerate(text):
        if letter == ">" and text[at - 1] != "-":
            depth -= 1
        elif letter == "<":
            depth += 1
        elif not depth:
            kept.append(letter)
    return "".join(kept)


def drawn(tree, samples):
    boxes, deepest = [], 0

    def walk(nodes, x, depth):
        nonlocal deepest
        for name, (count, below) in sorted(nodes.items(), key=lambda node: -node[1][0]):
            share = count / samples
            if share < MIN:
                continue
            deepest = max(deepest, depth)
            boxes.append((x, depth, share, name))
            walk(below, x, depth + 1)
            x += share

    walk(tree, 0.0, 0)
    height = (deepest + 1) * ROW + 4
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for x, depth, share, name in boxes:
        colour = "#c9d7e8" if name == "kernel" else "#f3c98b" if depth % 2 else "#f0b76a"
        left, width, top = x * WIDTH, share * WIDTH, height - (depth + 1) * ROW - 2
        text = html.escape(name if len(name) * 6.7 < width - 4 else name[: max(0, int((width - 10) / 6.7))])
        lines.append(
            f'<g><title>{html.escape(name)} {share:.1%}</title><rect x="{left:.1f}" y="{top}" width="{max(width - 0.5, 0.5):.1f}" '
            f'height="{ROW - 1}" fill="{colour}"/>' + (f'<text x="{left + 3:.1f}" y="{top + 12}">{text}</text>' if len(text) > 2 else "") + "</g>"
        )
    return "\n".join([*lines, "</svg>\n"])
