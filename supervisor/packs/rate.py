"""How far a download is and how long it will take, for people."""

from collections import deque
from dataclasses import dataclass, field

from rich.filesize import decimal

WINDOW = 10.0  # seconds over which the speed is measured
EVERY = 0.5  # seconds between two samples


@dataclass
class Rate:
    """``total`` in bytes."""

    total: int
    _done: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)  # when, and how many bytes had come

    def take(self, done: int, now: float) -> None:
        """Note how much is there; less than before starts the measuring anew."""
        if done < self._done:
            self._seen.clear()
        self._done = done
        if not self._seen or now - self._seen[-1][0] >= EVERY:
            self._seen.append((now, done))
        while self._seen[-1][0] - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    @property
    def speed(self) -> float:
        """Bytes a second; 0 while nothing is known of it."""
        if len(self._seen) < 2:
            return 0.0
        (first, had), (last, have) = self._seen[0], self._seen[-1]
        return (have - had) / (last - first)

    def __str__(self) -> str:
        """For people: "43 %, 12.0 MB/s, 3 min left"."""
        parts = [f"{100 * self._done // self.total} %"]
        if self.speed:
            parts += [f"{size(self.speed)}/s", f"{duration((self.total - self._done) / self.speed)} left"]
        return ", ".join(parts)


def size(count: float) -> str:
    return decimal(round(count))


def duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"
