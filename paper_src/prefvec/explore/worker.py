"""One piece of work at a time in the background, with progress, a stop, and errors in one line."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from prefvec.errors import PrefvecError
from prefvec.progress import watched


class Stopped(Exception):
    """The reader has asked to stop."""


class Status(NamedTuple):
    """What the page says of the work: busy or not, a line, its share done in [0, 1] (None: not known),
    and whether the line is an error."""

    busy: bool
    text: str
    share: float | None = None
    error: bool = False


class Worker:
    """Runs work in a thread of its own and tells `report` what becomes of it."""

    def __init__(self, report: Callable[[Status], None]):
        self._report = report
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.busy = False  # whether something is being done

    def start(self, title: str, work: Callable[["Worker"], str]) -> bool:
        """Start `work(worker)`, which gives back the line to end with; False if something is running."""
        if self.busy:
            return False
        self.busy = True
        self._stop.clear()
        self._report(Status(True, title))
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Ask the work to end at its next step."""
        self._stop.set()

    def check(self) -> None:
        """Raise Stopped if the work is to end; work calls it between its steps."""
        if self._stop.is_set():
            raise Stopped

    def say(self, text: str, share: float | None = None) -> None:
        """Tell how far the work is, unless it is to end."""
        self.check()
        self._report(Status(True, text, share))

    def wait(self, seconds: float | None = None) -> None:
        """Until the work has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, work: Callable[["Worker"], str]) -> None:
        try:
            with watched(lambda label, done, of: self.say(f"{label}: {done} of {of}", done / of)):
                last = Status(False, work(self))
        except Stopped:
            last = Status(False, "stopped; what was computed is kept")
        except PrefvecError as error:
            last = Status(False, str(error), error=True)
        except Exception as error:  # whatever it is, the page lives on
            text = " ".join(str(error).split())[:300]
            last = Status(False, f"unexpected {type(error).__name__}: {text}", error=True)
        self.busy = False
        self._report(last)
