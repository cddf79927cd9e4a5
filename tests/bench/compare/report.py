"""What is printed: Markdown, ready for the README, and what was wrong with it."""

import os
import pathlib
import platform
import re
import statistics
import subprocess

from .contestants import PROGRAMS, which


class Report:
    """Says at the end what was found wrong: figures beside that are worth nothing."""

    def __init__(self):
        self.wrong = []

    def table(self, header, rows):
        print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)

    def say(self, text):
        print(f"\n{text}", flush=True)

    def check(self, holds, otherwise):
        if not holds:
            self.wrong.append(otherwise)

    def end(self, held):
        """`held` is what was checked; the exit code."""
        self.say(f"Checked: {held}." if not self.wrong else "**Not worth anything**: " + "; ".join(self.wrong) + ".")
        return bool(self.wrong)


def median(figures):
    return statistics.median(figures)


def span(figures, form):
    """Median (least–most)."""
    figures = sorted(figures)
    return f"{median(figures):{form}} ({figures[0]:{form}}–{figures[-1]:{form}})"


def met(holds):
    return "yes" if holds else "**no**"


def setting(options, *peers):
    """The machine, and whose versions."""
    versions = [f"contacts-gateway {version(options.binary, '--version')}"]
    for name in peers:
        program = which(PROGRAMS[name])
        flag = "-V" if name == "varnish" else "-v"
        versions.append(f"{name} {version(program, flag)}" if program else f"{name} is not installed and left out")
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    model = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}; {', '.join(versions)}."


def version(program, flag):
    """The first thing like one that it prints."""
    told = subprocess.run([program, flag], capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
    return found[0] if found else "of an unknown version"
