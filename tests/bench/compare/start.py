"""What it costs to start the gateway and to have it: processor time until it is ready, memory then, and the program's size."""

import pathlib
import time

from .contestants import USUAL, which
from .load import say
from .processes import run
from .report import met, setting, span

MOST = {"CPU until ready, ms": 50, "resident when ready, MiB": 16, "program, stripped, MiB": 12}


def start(stage, report):
    report.say(f"Start. {setting(stage.options)} {stage.options.rounds} starts, median (least–most).")
    cpu, wall, memory = [], [], []
    for _ in range(stage.options.rounds):
        # As in life: with TLS to the vendor, and the system's authorities read for that.
        gateway = stage.gateway(USUAL, "https")
        cpu.append(gateway.cpu() * 1000)
        wall.append((time.perf_counter() - gateway.started) * 1000)
        memory.append(gateway.memory() / 1024)
        gateway.stop()
    say("size")
    size = stripped(stage) / 2**20
    figures = zip(MOST.items(), (cpu, memory, [size]))
    rows = [[name, span(seen, ".1f"), f"< {most}", met(max(seen) < most)] for (name, most), seen in figures]
    report.table(["", "contacts-gateway", "meant", "met"], [*rows, ["time until ready, ms", span(wall, ".1f"), "", ""]])
    return report.end(f"{stage.options.rounds} of {stage.options.rounds} starts were answered 200 at /ready")


def stripped(stage):
    """The program's size as it is shipped; as it is where there is no strip."""
    if not which("strip"):
        return pathlib.Path(stage.options.binary).stat().st_size
    file = stage.folder / "stripped"
    run(["strip", "-o", file, stage.options.binary])
    return file.stat().st_size
