"""Who is measured: the gateway with everything on, other caching proxies where they are installed, and bare hyper.

One worker or thread each, caches in memory, nothing logged for a hit.
"""

import hashlib
import http.client
import pathlib
import shutil
import string

from .processes import Server, free_port
from .vendor import page, path

TOKEN = "8bq2vKJm3nT0xWcY5rZaL7uQ"  # opens nothing but the gateway that is measured

GATEWAY = f"""
[listen]
address = "127.0.0.1:$port"
[admin]
address = "127.0.0.1:$admin"
[upstream]
url = "$scheme://127.0.0.1:$vendor"
[cache]
fresh_for = "1h"
max_bytes = "$max_bytes"
[allowance]
$allowance
[telemetry]
otlp_endpoint = "http://127.0.0.1:$collector"
trace_ratio = 0.01
[[credentials]]
stream = "*"
client_id = "cs-8a3c5a5e-0000-5000-8000-000000000001"
secret_file = "$folder/client_secret"
[[callers]]
name = "bench"
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
requests_per_minute = 1000000000
fetches_per_minute = 1000000000
"""
# More than a comparison of hits needs, and more in any second than there can be misses in one.
USUAL, SOME_CALLS, NO_LIMIT = "calls = 59", "calls = 600", 'calls = 200000\nwindow = "1s"'

HAPROXY = """
global
    nbthread 1
    maxconn 4096
    tune.maxpollevents 200
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    timeout http-keep-alive 600s
$cache
frontend callers
    bind 127.0.0.1:$port backlog 4096
    $use
    default_backend vendor
backend vendor
    http-reuse always
    server vendor 127.0.0.1:$vendor maxconn 4096
"""
HAPROXY_CACHE = """
cache pages
    total-max-size 256
    max-object-size 4000000
    max-age 3600
"""
HAPROXY_USE = """
    http-request cache-use pages
    http-response cache-store pages
"""

NGINX = """
daemon off;
worker_processes 1;
pid $folder/nginx.pid;
error_log $folder/nginx.error error;
events { worker_connections 4096; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=600s;
    open_file_cache_valid 600s;
    client_body_temp_path $folder/nginx-body;
    proxy_temp_path $folder/nginx-proxy;
    fastcgi_temp_path $folder/nginx-fastcgi;
    uwsgi_temp_path $folder/nginx-uwsgi;
    scgi_temp_path $folder/nginx-scgi;
    proxy_cache_path $folder/nginx-cache levels=1 keys_zone=pages:10m max_size=256m inactive=2h use_temp_path=off;
    upstream vendor { server 127.0.0.1:$vendor; keepalive 32; }
    server {
        listen 127.0.0.1:$port backlog=4096;
        location / {
            proxy_pass http://vendor;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache pages;
            proxy_cache_key $$request_uri;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 30s;
            proxy_cache_lock_age 30s;
            proxy_cache_use_stale updating error timeout;
        }
    }
}
"""

VARNISH = """
vcl 4.1;
backend vendor { .host = "127.0.0.1"; .port = "$vendor"; }
sub vcl_recv { return (hash); }
sub vcl_hash { hash_data(req.url); return (lookup); }
"""
# Every request is written to a log in shared memory, unless all that a request can write is masked.
VARNISH_LOG = (
    "Begin End Link SessOpen SessClose Timestamp Debug VSL Error FetchError BogoHeader LostHeader TTL Fetch_Body Length Storage "
    "ReqStart ReqMethod ReqURL ReqProtocol ReqHeader ReqUnset ReqAcct RespMethod RespURL RespProtocol RespStatus RespReason "
    "RespHeader RespUnset Hit HitMiss HitPass Filters VCL_call VCL_return VCL_use VCL_Log VCL_Error BereqMethod BereqURL "
    "BereqProtocol BereqHeader BereqUnset BerespProtocol BerespStatus BerespReason BerespHeader BerespUnset BackendOpen "
    "BackendClose Backend ObjProtocol ObjStatus ObjReason ObjHeader"
)

PROGRAMS = {"haproxy": "haproxy", "nginx": "nginx", "varnish": "varnishd"}


def ask(port, where, headers=()):
    """Status, header fields and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", where, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def which(program):
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


class Stage:
    """Where contestants are started, and what they share: a folder, a vendor, and whoever takes the spans."""

    def __init__(self, options, stack, vendor):
        self.options, self.stack, self.vendor = options, stack, vendor
        self.folder = pathlib.Path(options.folder)
        self.write("client_secret", "0e4d5ac9d1e84f6d8c3b1a0f9e8d7c6b7f0c1d5b2a9e4f6d\n")

    def gateway(self, allowance=SOME_CALLS, scheme="http", vendor=None, max_bytes="64MiB", more=""):
        """`more`: settings, as a template."""
        port, admin = free_port(), free_port()
        told = {"admin": admin, "allowance": allowance, "scheme": scheme, "max_bytes": max_bytes}
        file = self.write(f"{port}.toml", GATEWAY + more, port, vendor, **told)
        gateway = self.start("contacts-gateway", [self.options.binary, "--config", file], port)
        gateway.admin = admin
        # To nobody else: they do not look at it, and HAProxy would keep no page for it.
        gateway.headers = {"Authorization": f"Bearer {TOKEN}"}
        return gateway.until_ready(lambda: ask(admin, "/ready")[0] == 200)

    def bare(self, contacts, **more):
        body, port = self.folder / f"page-{contacts}", free_port()
        body.write_bytes(page(contacts))
        bare = self.start("bare hyper", [self.options.bare, port, body], port, **more)
        return bare.until_ready(lambda: ask(port, "/")[0] == 200)

    def peers(self, *names):
        """Those of them that are installed."""
        return [self.peer(name) for name in names if which(PROGRAMS[name])]

    def peer(self, name, vendor=None, cached=True):
        port, program = free_port(), which(PROGRAMS[name])
        if name == "haproxy":
            cache, use = (HAPROXY_CACHE, HAPROXY_USE) if cached else ("", "")
            argv = [program, "-db", "-f", self.write("haproxy.cfg", HAPROXY, port, vendor, cache=cache, use=use)]
        elif name == "nginx":
            argv = [program, "-e", self.folder / "nginx.error", "-c", self.write("nginx.conf", NGINX, port, vendor)]
        else:
            vcl = self.write("varnish.vcl", VARNISH, port, vendor)
            argv = [program, "-F", "-j", "none", "-n", self.folder / "varnish", "-f", vcl, "-a", f"127.0.0.1:{port}"]
            argv += ["-s", "malloc,256m", "-p", "vsl_mask=" + ",".join(f"-{tag}" for tag in VARNISH_LOG.split())]
            for parameter in ("thread_pools=1", "thread_pool_min=600", "timeout_idle=600", "listen_depth=4096"):
                argv += ["-p", parameter]
        peer = self.start(name, argv, port)
        return peer.until_ready(lambda: ask(port, path(1, "ready"))[0] == 200)

    def start(self, name, argv, port, **more):
        server = Server(name, argv, port, self.folder / f"{port}.log", **more)
        self.stack.callback(server.stop)
        return server

    def write(self, name, template, port=None, vendor=None, **more):
        file = self.folder / name
        text = string.Template(template).substitute(
            port=port, vendor=vendor or self.vendor.port, collector=self.vendor.port, folder=self.folder, **more
        )
        file.write_text(text)
        return file
