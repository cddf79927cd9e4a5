"""Who asks: wrk for many requests, a crowd for one page at the same moment, and callers who stay connected and are silent."""

import json
import pathlib
import re
import resource
import select
import socket
import sys
import time

from .processes import LOAD, run

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


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
    """So many callers ask at once. In order of time: seconds until each had its answer, and whether that was right. They do no
    more than callers have to, so that it is the server that they wait for."""
    asked = request(server, where)
    callers = {}
    for _ in range(size):
        caller = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        callers[caller.fileno()] = caller
    time.sleep(0.3)  # until the last one is accepted
    waiting, got, began, took = select.epoll(), {}, {}, {}
    for number, caller in callers.items():
        waiting.register(number, select.EPOLLIN)
        began[number] = time.perf_counter()
        caller.sendall(asked)
    until = time.perf_counter() + 60
    while len(took) < size and time.perf_counter() < until:
        for number, _ in waiting.poll(1):
            more = callers[number].recv(1 << 16)
            got[number] = got.get(number, b"") + more
            if not more or whole(got[number]):
                took[number] = time.perf_counter() - began[number]
                waiting.unregister(number)
    for caller in callers.values():
        caller.close()
    return sorted((took.get(number, 60), body(got.get(number, b"")) == ("200", want)) for number in callers)


def request(server, where):
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **server.headers}.items())
    return f"GET {where} HTTP/1.1\r\n{fields}\r\n".encode()


def whole(answer):
    """Whether this is all of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def body(answer):
    """Status and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not LENGTH.search(head):
        chunks, body = body, b""
        while (size := chunks.partition(b"\r\n"))[0].strip(b"0"):
            length = int(size[0], 16)
            body, chunks = body + size[2][:length], size[2][length + 2 :]
    return head[9:12].decode("latin-1"), body


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
