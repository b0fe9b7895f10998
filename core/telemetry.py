"""Logging set-up for every process, with redaction of what looks like a secret."""

import logging
import re
import sys
import time

_SECRETS = re.compile(
    r"my_[A-Za-z0-9_-]{20,}"  # our own tokens
    r"|\b(?:sk|pk|rk|gsk|xai|pplx|key)-[A-Za-z0-9_-]{8,}"  # keys of providers
    r"|\b(?:(?:sk|rk)_(?:live|test)|whsec)_[A-Za-z0-9]{8,}"  # keys of the payment gateway
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of an address
)


class Redacting(logging.Formatter):
    """Formats a line, its traceback included, with everything that looks like a secret replaced."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return the finished line."""
        return redact(super().format(record))


def redact(text: str) -> str:
    """Return the text with tokens, provider keys and passwords in addresses replaced by stars."""
    return _SECRETS.sub("***", text)


def set_up_logging(process: str, level: str) -> None:
    """Log to standard error, one line a record, named by the process that writes it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        Redacting(
            f"%(asctime)s.%(msecs)03dZ {process} %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("arq.worker", "arq.jobs", "alembic", "asyncio", "uvicorn.error", "uvicorn.access", "stripe"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
