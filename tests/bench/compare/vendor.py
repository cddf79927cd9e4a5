"""The vendor, and whoever takes the spans: a server of ours that answers any getAllContacts path with a page.

The list's id says how many contacts it has: cl-n1000-whatever has 1000.
"""

import functools
import http.server
import json
import re
import threading
import time
import uuid

ACCOUNT = "67777ce93e25326494e90000"
STREAM = "st-0603182c-7ffb-53c3-b307-47ca14b90000"
AT = "2025-12-09T04:32:01.247Z"


def path(contacts, tag="a"):
    return f"/campaign/api/v2/public/{STREAM}/campaign/contactList/cl-n{contacts}-{tag}/getAllContacts?accountId={ACCOUNT}"


@functools.cache
def page(contacts):
    """The body, as the vendor's documentation has it. The same in every run."""
    results = [
        {
            "_id": f"cc-{uuid.uuid5(uuid.NAMESPACE_URL, str(n))}",
            "createdAt": AT,
            "updatedAt": AT,
            "phoneNumber": f"999{n:09}",  # a country code that nobody has
        }
        for n in range(contacts)
    ]
    data = {"results": results, "skip": 0, "limit": max(50, contacts), "hasMore": False, "totalPages": 1, "totalResults": contacts}
    answer = {"status": "success", "message": "Contacts retrieved successfully", "data": data}
    return json.dumps(answer, separators=(",", ":")).encode()


class Vendor(http.server.ThreadingHTTPServer):
    """Counts what it is asked for."""

    request_queue_size = 1024

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.port = self.server_address[1]
        self.calls, self.exports, self.delay = 0, 0, 0.0
        self.counting = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Connections that are cut off are everyday life here."""


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one write
    disable_nagle_algorithm = True

    def do_GET(self):
        with self.server.counting:
            self.server.calls += 1
        time.sleep(self.server.delay)
        self.answer(page(int(re.search(r"/cl-n(\d+)", self.path)[1])))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.exports += 1
        self.answer(b"")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", len(body))
        # So that those who have no fresh_for keep it as well.
        self.send_header("Cache-Control", "max-age=3600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
