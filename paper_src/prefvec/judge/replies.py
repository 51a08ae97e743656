"""What a server answered, kept by the content of the question: a reply is never paid for twice."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from prefvec.errors import EndpointError
from prefvec.store import Store, canonical_hash, write_text

REPLY_VERSION = 1


@dataclass(frozen=True)
class Reply:
    """One answer. `tokens`: the answer's tokens, where the server tells; `top`: (token, log-probability
    in nats) of the likeliest first tokens; `used`: prompt and completion tokens."""

    text: str
    finish: str = "stop"
    refusal: bool = False
    tokens: tuple[str, ...] = ()
    top: tuple[tuple[str, float], ...] = ()
    used: tuple[int, int] = (0, 0)

    @classmethod
    def from_json(cls, value: dict) -> Self:
        """The reply that `asdict` made JSON of."""
        return cls(
            **{
                **value,
                "tokens": tuple(value["tokens"]),
                "top": tuple((str(t), float(p)) for t, p in value["top"]),
                "used": tuple(value["used"]),
            }
        )


class Replies:
    """Replies by the sha256 of (server's identity, model, request): recorded ones first, then the store's.

    A recording is a JSONL file of `{key, reply}` lines that can be shipped and replayed without server
    or key. Its keys leave the server's identity out, so that it outlives a version of llama.cpp; it
    holds no request and no key.
    """

    def __init__(self, store: Store | None = None, recording: Path | None = None):
        self.store = store
        self.recorded: dict[str, Reply] = _read(Path(recording)) if recording else {}
        self.used: dict[str, Reply] = {}

    def get(self, key: dict) -> Reply | None:
        """The known reply to a request, or None."""
        digest = _digest(key)
        reply = self.recorded.get(digest)
        if reply is None and self.store is not None:
            found, value = self.store.peek("replies", key)
            reply = Reply.from_json(value) if found else None
        if reply is not None:
            self.used[digest] = reply
        return reply

    def put(self, key: dict, reply: Reply) -> None:
        """Keep a reply, at once and atomically."""
        self.used[_digest(key)] = reply
        if self.store is not None:
            self.store.put("replies", key, asdict(reply))

    def record(self, path: Path) -> Path:
        """Write every reply that this run used, in an order that depends on them alone."""
        lines = [
            json.dumps({"key": digest, "reply": asdict(reply)}, ensure_ascii=False)
            for digest, reply in sorted(self.used.items())
        ]
        return write_text(Path(path), "".join(f"{line}\n" for line in lines))


def _digest(key: dict) -> str:
    return canonical_hash({name: part for name, part in key.items() if name != "server"})


def _read(path: Path) -> dict[str, Reply]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EndpointError(f"recorded replies {path} can't be read: {error.strerror}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found[row["key"]] = Reply.from_json(row["reply"])
        except (ValueError, KeyError, TypeError) as error:
            raise EndpointError(
                f"recorded replies {path}, line {number}: not a reply ({error!r})"
            ) from error
    return found
