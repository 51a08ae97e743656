"""A loopback server that speaks OpenAI's protocol and misbehaves as told, item by item."""

import json
import re
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEM = re.compile(r"item-(\d+)")


def completion(text="7", top=(("7", -0.1), ("8", -2.5)), finish="stop", refusal=None):
    """A chat completion's JSON; top None: without log-probabilities."""
    logprobs = None
    if top is not None:
        likeliest = [{"token": t, "logprob": p, "bytes": None} for t, p in top]
        first = {
            "token": text[:1] or text,
            "logprob": -0.1,
            "bytes": None,
            "top_logprobs": likeliest,
        }
        logprobs = {"content": [first]}
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    usage = {"prompt_tokens": 50, "completion_tokens": 2, "total_tokens": 52}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}  # fmt: skip


REPLIES = {
    "ok": completion(),
    "refusal": completion(None, None, refusal="No."),
    "filtered": completion("", None, finish="content_filter"),
    "refusal in words": completion("I'm sorry, I can't.", (("I", -0.01), ("7", -6.0))),
    "no log-probabilities": completion("8.", None),
    "out of range": completion("250", None),
    "below range": completion("-3", None),
    "words": completion("quite good", None),
    "little mass": completion("Well", (("Well", -0.1), ("7", -4.0))),
    "no choices": {"id": "x", "object": "chat.completion", "choices": []},
    "null": None,
}


class BadServer:
    """What was asked of it: `requests`, `seen` by item, the largest number `at_once`, `headers`."""

    def __init__(self, script, after=0.3):
        self.script = defaultdict(list, {k: list(v) for k, v in script.items()})
        self.after, self.requests, self.at_once = after, 0, 0
        self.seen, self.headers, self.bodies = Counter(), [], []
        self.times = defaultdict(list)
        self.open, self.lock = 0, threading.Lock()
        self.url = ""

    def next(self, item):
        """The next behaviour towards an item; `ok` when its script is over."""
        return self.script[item].pop(0) if self.script[item] else "ok"


@contextmanager
def bad_server(script, after=0.3, delay=0.0):
    """Serve `script`: for each item (int) what happens to its requests, one after the other."""
    state = BadServer(script, after)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            item = int(ITEM.search(raw.decode())[1])
            with state.lock:
                state.requests += 1
                state.seen[item] += 1
                state.times[item].append(time.monotonic())
                state.headers.append({k.lower(): v for k, v in self.headers.items()})
                state.bodies.append(json.loads(raw))
                state.open += 1
                state.at_once = max(state.at_once, state.open)
                what = state.next(item)
            time.sleep(delay)
            try:
                self.act(what)
            finally:
                with state.lock:
                    state.open -= 1

        def act(self, what):
            if what == "hang":
                over.wait(20)
                self.close_connection = True
            elif what == "cut":
                self.send(200, b'{"choices": [', length=5000)
                self.close_connection = True
            elif what == "dropped":
                self.close_connection = True
            elif what == "truncated":
                self.send(200, json.dumps(completion()).encode()[:80])
            elif what == "html":
                self.send(200, b"<html>busy</html>", kind="text/html")
            elif what == "429 after":
                self.send(429, b"{}", extra={"Retry-After": str(state.after)})
            elif what == "no credit":
                error = {"error": {"message": "no", "code": "insufficient_quota"}}
                self.send(429, json.dumps(error).encode())
            elif isinstance(what, int):
                self.send(what, b'{"error": {"message": "told to fail"}}')
            else:
                self.send(200, json.dumps(REPLIES[what]).encode())

        def send(self, status, body, length=None, kind="application/json", extra=None):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length or len(body)))
            for name, value in (extra or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        over.set()
        server.shutdown()
        server.server_close()
