"""Logging of this package's modules in a Serve replica; Serve configures only its own loggers."""

import logging

from compute.settings import Settings

__all__ = ["configure_logging"]


def configure_logging(settings: Settings) -> None:
    """Send the `compute` loggers to the replica's stderr, which Ray collects."""
    logger = logging.getLogger("compute")
    logger.setLevel(settings.log_level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
