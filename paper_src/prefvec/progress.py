"""Progress bars that something other than a terminal can watch, and end the work by."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm.auto import tqdm

Watcher = Callable[[str, int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class Bar(tqdm):
    """A bar of `total` steps: drawn on a terminal, and told to the thread's watcher anywhere."""

    def __init__(self, total: int, label: str, unit: str, leave: bool = True):
        super().__init__(total=total, desc=label, unit=unit, leave=leave, disable=None)
        self.label, self.steps, self.done = label, total, 0

    def update(self, n: int = 1) -> None:
        """Count n more steps."""
        super().update(n)
        self.done += n  # tqdm counts nothing where it draws nothing
        watcher = _watcher.get()
        if watcher:
            watcher(self.label, self.done, self.steps)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Within the block every bar of this thread calls `watcher(label, done, steps)` at each step. An
    exception that it raises ends the work and is passed on; what was stored by then is kept."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
