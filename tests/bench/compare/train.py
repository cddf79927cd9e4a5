"""Requests of each kind that a gateway answers often, so that a program which counts what it runs has run it: hits and misses
most of all, then TLS, HTTP/2, a shared store, and what else there is to say."""

import socket

from .contestants import NO_LIMIT, ask, which
from .load import say, wrk
from .processes import LOAD, Failed, Server, free_port, run
from .report import setting
from .vendor import page, path

PACKAGES = {"h2load": "nghttp2-client", "openssl": "openssl", "redis-server": "redis-server"}
SHORT = 5  # what is done less often gets so much less time
PAGES = 2_000
# Replicas tell one another of every call that may have been made before they came.
SHARED_LIMIT = 'calls = 20000\nwindow = "1s"'


def train(stage, report):
    for program, package in PACKAGES.items():
        if not which(program):
            raise Failed(f"{program} is not in PATH: install it (Debian: apt-get install {package})")
    seconds = stage.options.seconds
    short = max(1, seconds // SHORT)
    report.say(f"Training. {setting(stage.options)}")
    vendor = stage.bare(50, core=LOAD).port

    say("hits")
    gateway = stage.gateway()
    for size in stage.options.sizes:
        heard(report, wrk(gateway, path(size), seconds), page(size))
    say("misses")
    fetching = stage.gateway(NO_LIMIT, vendor=vendor)
    heard(report, wrk(fetching, path(50), 2 * seconds, 64, "misses"), page(50))

    say("whatever else")
    where = path(50)
    _, fields, _ = ask(gateway.port, where, gateway.headers)
    known = gateway.headers
    for more in ({"If-None-Match": fields["ETag"]}, {"Cache-Control": "only-if-cached"}, {"Authorization": "Bearer wrong"}):
        gateway.headers = {**known, **more}
        wrk(gateway, where, short)
    gateway.headers = known
    wrk(gateway, where.replace("getAllContacts", "nothing"), short)
    for _ in range(PAGES // 10):
        ask(gateway.admin, "/metrics")
        ask(gateway.admin, "/status")

    say("TLS and HTTP/2")
    secret = ["-keyout", stage.folder / "key.pem", "-out", stage.folder / "certificate.pem"]
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway", *secret])
    closed = stage.gateway(more='[listen.tls]\ncertificate_file = "$folder/certificate.pem"\nkey_file = "$folder/key.pem"\n')
    for scheme, server, options in (("http", gateway, ["-m4"]), ("https", closed, ["-m4"]), ("https", closed, ["--h1"])):
        told = ["-H", f"authorization: {known['Authorization']}", f"{scheme}://127.0.0.1:{server.port}{where}"]
        said = run(["h2load", f"-D{short}", "-c16", *options, *told], LOAD)
        report.check(" 0 2xx" not in said, f"h2load {scheme} {options}: no answer is good")

    say("a store")
    port = free_port()
    store = Server("redis", [which("redis-server"), "--port", port, "--save", "", "--dir", stage.folder], port, stage.folder / "redis.log", LOAD)
    stage.stack.callback(store.stop)
    store.until_ready(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
    shared = f'[shared]\nurl = "redis://127.0.0.1:{port}"\n'
    replicas = [stage.gateway(SHARED_LIMIT, vendor=vendor, more=shared) for _ in range(2)]
    for number in range(PAGES):
        for replica in replicas:
            status, _, _ = ask(replica.port, f"{where}&skip={number}", replica.headers)
            report.check(status == 200, f"a replica answered {status}")
    heard(report, wrk(replicas[0], where, short, 4, "misses"), page(50))
    return report.end("the answers of hits and misses were whole")


def heard(report, seen, want):
    report.check(not seen["errors"] and seen["bytes"] >= seen["requests"] * len(want), f"{seen}: errors, or short answers")
