"""Who asks: wrk for many requests, a crowd for one page at the same moment, and callers who stay connected and are silent."""

import asyncio
import json
import pathlib
import resource
import select
import socket
import sys
import time

from .processes import LOAD, run

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")


def wrk(server, where, seconds, connections=64, *arguments):
    """What wrk saw, and what that cost the server: CPU is in seconds a request, busy a share of a core."""
    cpu, own, began = server.cpu(), own_cpu(), time.perf_counter()
    headers = [argument for name, value in server.headers.items() for argument in ("-H", f"{name}: {value}")]
    url = f"http://127.0.0.1:{server.port}{where}"
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *headers, "-s", SCRIPT]
    seen = json.loads(run(["wrk", *options, url, "--", *arguments], LOAD).strip().splitlines()[-1])
    wall, used = time.perf_counter() - began, server.cpu() - cpu
    return {
        **seen,
        "rate": seen["requests"] / seen["seconds"],
        "cpu": used / seen["requests"],
        "busy": used / wall,
        "wrk_busy": (own_cpu() - own) / wall,
    }


def steady(server, where, seconds, *arguments):
    """The same after a second to warm up, by 64 callers. Where neither side was busy, something else held up the machine, and
    it is measured again."""
    wrk(server, where, 1, 64, *arguments)
    for _ in range(3):
        seen = wrk(server, where, seconds, 64, *arguments)
        if max(seen["busy"], seen["wrk_busy"]) >= 0.9:
            break
    say(f"   {server.name}: {seen['rate']:,.0f}/s, busy {seen['busy']:.0%}, wrk {seen['wrk_busy']:.0%}")
    return seen


def crowd(server, where, size, want):
    """So many callers ask at once. In order of time: seconds until each had its answer, and whether that was right."""

    async def ask(reader, writer, go):
        await go.wait()
        began = time.perf_counter()
        try:
            writer.write(request(server, where))
            right = await answer(reader) == ("200", want)
        except (OSError, ValueError, KeyError, asyncio.IncompleteReadError):
            right = False
        writer.close()
        return time.perf_counter() - began, right

    async def all_of_them():
        go = asyncio.Event()
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(size)]
        asking = [asyncio.create_task(ask(*pair, go)) for pair in pairs]
        await asyncio.sleep(0.3)  # until the last one is accepted
        go.set()
        return sorted(await asyncio.wait_for(asyncio.gather(*asking), 60))

    return asyncio.run(all_of_them())


def request(server, where):
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **server.headers}.items())
    return f"GET {where} HTTP/1.1\r\n{fields}\r\n".encode()


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    if "chunked" not in fields.get("transfer-encoding", ""):
        body = await reader.readexactly(int(fields["content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    return head[0].split()[1], body


def connected(server, where, number, length):
    """So many connections, each of which has had an answer of this length, head apart."""
    held = []
    for _ in range(number):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        one.sendall(request(server, where))
        head, _, body = one.recv(65536).partition(b"\r\n\r\n")
        while len(body) < length and (more := one.recv(65536)):
            body += more
        if b" 200 " not in head[:16] or len(body) != length:
            raise OSError(f"{server.name}: connection {len(held) + 1} was answered {head[:60]!r}")
        held.append(one)
    return held


def closed(connections):
    """How many of them the other side has closed."""
    waiting = select.poll()
    for one in connections:
        waiting.register(one, select.POLLIN)
    return len(waiting.poll(0))


def own_cpu():
    """Of the children that have ended, which is what wrk has by then."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(what):
    print(what, file=sys.stderr, flush=True)
