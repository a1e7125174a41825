"""What holds for every run."""

import faulthandler

_EXIT_SECONDS = 60


def pytest_unconfigure() -> None:
    """A thread that a failed test has left must not keep the run from ending: tell which one it is, and end."""
    faulthandler.dump_traceback_later(_EXIT_SECONDS, exit=True)
