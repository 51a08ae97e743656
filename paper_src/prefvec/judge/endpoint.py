"""Requests to any OpenAI-compatible server: in parallel, with retries, a budget and a cache.

A request that gets no answer is a `Loss` with a reason, never an exception; only what makes every
request fail (no server, no key, a key or model refused) is an error, of one line. The key is read
from the environment, goes into the client and is kept nowhere else.
"""

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from prefvec.errors import EndpointError
from prefvec.judge.budget import Budget
from prefvec.judge.replies import REPLY_VERSION, Replies, Reply
from prefvec.store import canonical_hash

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_URL = "https://api.openai.com/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_SECONDS = 5.0
FATAL = {401: "the key was refused", 403: "access was refused", 404: "no such model or path"}
CHARACTERS_PER_TOKEN = 2  # a cautious bound, for the budget only


@dataclass(frozen=True)
class Ask:
    """One request. `top`: likeliest first tokens to give log-probabilities of (0: none); `options`:
    further fields of the request (sampling parameters, logit bias), sorted by name."""

    user: str
    system: str = ""
    max_tokens: int = 4
    temperature: float = 0.0
    top: int = 0
    options: tuple[tuple[str, object], ...] = ()

    def body(self) -> dict:
        """The request's JSON, without the model's name."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "messages": [*messages, {"role": "user", "content": self.user}],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if self.top:
            body |= {"logprobs": True, "top_logprobs": self.top}
        return body | dict(self.options)


@dataclass(frozen=True)
class Loss:
    """A request without an answer, and why."""

    reason: str


class Endpoint:
    """One model behind one base URL; without a URL, nothing is asked and only known replies are read.

    identity: what the server's answers depend on besides the request (default: the URL; for a
    server on a free port, the digest of its model file). parallel: requests in flight at most;
    timeout: seconds for one request; attempts: tries of one, with exponential waits from `wait`
    seconds on; a Retry-After of at most `longest_wait` seconds is kept to; send_key: whether the server
    is given the key, if there is one.
    """

    def __init__(
        self,
        base_url: str | None,
        model: str,
        replies: Replies,
        identity: dict | None = None,
        budget: Budget | None = None,
        parallel: int = 4,
        timeout: float = 60.0,
        attempts: int = 5,
        wait: float = 1.0,
        longest_wait: float = 60.0,
        send_key: bool = True,
    ):
        self.base_url, self.model, self.replies = base_url, model, replies
        self.identity = identity or {"url": (base_url or "").rstrip("/")}
        self.budget = budget or Budget()
        self.parallel, self.timeout, self.attempts = parallel, timeout, attempts
        self.wait, self.longest_wait = wait, longest_wait
        self.send_key = send_key
        self.losses: Counter[str] = Counter()
        self._client = None
        self._stop = threading.Event()

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, {self.model!r})"

    def ask(self, asks: Sequence[Ask], label: str = "requests") -> list[Reply | Loss]:
        """An answer or a loss for each request, in order. Equal requests are sent once; known answers
        are read; each new one is kept as it comes.

        Raises EndpointError if there is no server or key, or the server refuses key or model.
        """
        digests = [canonical_hash(self._key(one)) for one in asks]
        unique = dict(zip(digests, asks, strict=True))
        done: dict[str, Reply | Loss] = {}
        for digest, one in unique.items():
            known = self.replies.get(self._key(one))
            if known is not None:
                done[digest] = known
        todo = [digest for digest in unique if digest not in done]
        if todo and self.base_url is None:
            done |= dict.fromkeys(todo, Loss("not recorded"))
        elif todo:
            self._connect()
            self._stop.clear()
            with (
                ThreadPoolExecutor(self.parallel) as workers,
                tqdm(total=len(todo), desc=label, unit="reply", disable=None) as bar,
            ):
                try:
                    answers = workers.map(self._answer, [unique[digest] for digest in todo])
                    for digest, answer in zip(todo, answers, strict=True):
                        done[digest] = answer
                        bar.update()
                finally:
                    self._stop.set()
        found = [done[digest] for digest in digests]
        self.losses.update(f.reason for f in found if isinstance(f, Loss))
        return found

    def _key(self, one: Ask) -> dict:
        return {
            "version": REPLY_VERSION,
            "server": self.identity,
            "model": self.model,
            "request": one.body(),
        }

    def _connect(self) -> None:
        """Find out whether anybody listens, before the first request. No request is sent."""
        if self._client is not None:
            return
        parts = urlsplit(self.base_url)
        local = parts.hostname in LOOPBACK
        key = os.environ.get(KEY_VARIABLE, "").strip() if self.send_key else ""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(f"base URL '{self.base_url}': give http(s)://host[:port]/v1")
        if not key and not local:
            raise EndpointError(
                f"{KEY_VARIABLE} is not set, and {parts.hostname} needs a key: set it in the "
                "environment, give recorded replies, or use the local judge"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise EndpointError(
                f"no server answers at {self.base_url} ({reason}): check the address and that it runs"
            ) from None
        import openai

        self._client = openai.OpenAI(
            base_url=self.base_url,
            api_key=key or "none",
            timeout=self.timeout,
            max_retries=0,
        )

    def _answer(self, one: Ask) -> Reply | Loss:
        """Ask until there is an answer, the attempts are over, or the budget is."""
        bound = (len(one.system + one.user) // CHARACTERS_PER_TOKEN + 32, one.max_tokens)
        reason = "stopped"
        for attempt in range(self.attempts):
            if self._stop.is_set():
                return Loss("stopped")
            if not self.budget.reserve(*bound):
                return Loss("budget")
            reply, reason, wait = self._once(one)
            self.budget.settle(bound, reply.used if reply else (0, 0))
            if reply is not None:
                self.replies.put(self._key(one), reply)
                return reply
            if wait is None or attempt + 1 == self.attempts:
                break
            backoff = self.wait * 2**attempt * random.uniform(0.5, 1.0)
            self._stop.wait(min(max(wait, backoff), self.longest_wait))
        return Loss(reason)

    def _once(self, one: Ask) -> tuple[Reply | None, str, float | None]:
        """(reply, reason of a failure, seconds to wait at least before another try; None: no use)."""
        import openai

        body = one.body()
        own = {name: body.pop(name) for name, _ in one.options}  # may be no field of OpenAI's
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model, **body, extra_body=own
            )
        except openai.APITimeoutError:
            return None, "timeout", 0.0
        except openai.APIConnectionError:
            return None, "connection", 0.0
        except openai.APIStatusError as error:
            status = error.status_code
            fatal = FATAL.get(status)
            if error.code == "insufficient_quota":  # a 429 that no waiting helps
                fatal = "the account has no credit left"
            if fatal:
                self._stop.set()
                raise EndpointError(
                    f"{self.base_url}, model '{self.model}': {fatal} (HTTP {status}); answers that "
                    "came are kept"
                ) from None
            again = status in (408, 409, 429) or status >= 500
            return None, f"http {status}", retry_after(error.response) if again else None
        try:
            return parse_reply(raw.http_response.json()), "", None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None, "malformed reply", 0.0


def parse_reply(body: dict) -> Reply:
    """The parts of a chat completion's JSON that are kept. Raises KeyError, TypeError or ValueError
    for what is not one."""
    choice = body["choices"][0]
    message = choice["message"]
    if not isinstance(message.get("content") or "", str):
        raise ValueError("content is not text")
    content = (choice.get("logprobs") or {}).get("content") or []
    first = content[0].get("top_logprobs") or [] if content else []
    usage = body.get("usage") or {}
    return Reply(
        text=message.get("content") or "",
        finish=str(choice.get("finish_reason") or ""),
        refusal=bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter",
        tokens=tuple(str(c["token"]) for c in content),
        top=tuple((str(t["token"]), float(t["logprob"])) for t in first),
        used=(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)),
    )


def retry_after(response) -> float:
    """Seconds that a server asks to wait (Retry-After as seconds or as a date); 0 if it does not."""
    from email.utils import parsedate_to_datetime

    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
