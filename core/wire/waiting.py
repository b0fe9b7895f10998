"""How long a provider asks to be left alone, in every form that providers say it in."""

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST_WAIT_SECONDS = 7 * 86400.0

_DURATION = re.compile(
    r"(?:(?P<days>\d+(?:\.\d+)?)d)?(?:(?P<hours>\d+(?:\.\d+)?)h)?(?:(?P<minutes>\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)s)?(?:(?P<millis>\d+(?:\.\d+)?)ms)?"
)
_UNIT_SECONDS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "millis": 0.001}
_EPOCH_FROM = 1_000_000_000.0

# Headers of what is left of a limit, and of when it is full again.
_LIMITS = (
    *((f"x-ratelimit-remaining{of}", f"x-ratelimit-reset{of}") for of in ("-requests", "-tokens", "")),
    *(
        (f"anthropic-ratelimit-{of}-remaining", f"anthropic-ratelimit-{of}-reset")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)


def retry_after_of(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return for how many seconds a provider asks to be left alone, from whatever header says so.

    Dates are told by its own clock where it says what that shows, else by `now`, which is left out for this machine's.
    """
    here = _date(headers.get("date", "")) or now or time.time()
    millis = parse_wait(headers.get("retry-after-ms", ""))
    if millis is not None:
        return millis / 1000
    wait = parse_wait(headers.get("retry-after", ""), here)
    if wait is not None:
        return wait
    resets = {left: parse_wait(headers.get(reset, ""), here) for left, reset in _LIMITS}
    used_up = [left for left in resets if headers.get(left) == "0"]
    waits = [wait for left in (used_up or resets) if (wait := resets[left]) is not None]
    return max(waits, default=None)


def parse_wait(text: str, now: float | None = None) -> float | None:
    """Return a wait in seconds from `7`, `1.5`, `12ms`, `6m0s`, an HTTP or ISO date or an epoch, else None.

    Dates and epochs need `now`. A wait is never negative and never above a week.
    """
    text = text.strip()
    if not text:
        return None
    try:
        return _bounded(float(text), now)
    except ValueError:
        pass
    if match := _DURATION.fullmatch(text.lower()):
        return _bounded(sum(float(number) * _UNIT_SECONDS[unit] for unit, number in match.groupdict("0").items()), None)
    at = _date(text)
    return None if at is None or now is None else _bounded(at - now, None)


def _bounded(seconds: float, now: float | None) -> float | None:
    if not math.isfinite(seconds):
        return None
    if seconds >= _EPOCH_FROM:
        epoch = seconds / 1000 if seconds >= _EPOCH_FROM * 100 else seconds
        return None if now is None else _bounded(epoch - now, None)
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)


def _date(text: str) -> float | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(text)
        except ValueError:
            continue
        return at.timestamp() if at.tzinfo is not None else None
    return None
