"""A clock that moves only when a test says so."""

from collections.abc import Callable


class FakeClock:
    """Seconds that runs add to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, *seconds: float) -> Callable[[], None]:
        """A run that takes the given seconds, one number a call and the last one ever after."""
        times = iter(seconds)
        last = seconds[-1]

        def step() -> None:
            self.order.append(name)
            self.now += next(times, last)

        return step
