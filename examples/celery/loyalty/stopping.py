import signal
from threading import Event


class Stopping:
    """Becomes true with SIGTERM or Ctrl-C, so that a loop ends after the work in hand."""

    def __init__(self):
        self._told = Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._told.set())

    def __bool__(self) -> bool:
        return self._told.is_set()

    def wait(self, seconds: float) -> None:
        self._told.wait(seconds)
