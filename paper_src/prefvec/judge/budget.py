"""What may be spent: requests, tokens and money, counted before and after each request."""

import threading
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Upper limits of a run; None: no limit.

    requests: sent over the wire, retries included; tokens: prompt and completion; money: in the
    currency of the prices, which are per million tokens. A request is only sent if its largest
    possible cost still fits, so no limit is ever passed.
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    spent_requests: int = field(default=0, init=False)
    spent_tokens: int = field(default=0, init=False)
    spent_money: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def reserve(self, tokens_in: int, tokens_out: int) -> bool:
        """Set a request's upper bound aside; False if it does not fit."""
        cost = self.cost(tokens_in, tokens_out)
        with self._lock:
            wanted = (
                (self.requests, self.spent_requests + 1),
                (self.tokens, self.spent_tokens + tokens_in + tokens_out),
                (self.money, self.spent_money + cost),
            )
            if any(limit is not None and total > limit for limit, total in wanted):
                return False
            self.spent_requests, self.spent_tokens, self.spent_money = (t for _, t in wanted)
            return True

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replace what was set aside by what was used (0, 0 for a request that got no answer)."""
        with self._lock:
            self.spent_tokens += sum(used) - sum(reserved)
            self.spent_money += self.cost(*used) - self.cost(*reserved)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money for so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6
