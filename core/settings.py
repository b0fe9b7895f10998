"""All settings of a process, read once from the environment; the only place that names its variables."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from core.currencies import CURRENCIES
from core.operator_files import OperatorFile, read_hosted, read_products
from core.secret import Secret

PREFIX = "MODELYARD_"

MAX_PER_MINUTE = 1_000_000_000
MAX_BUDGET = Decimal(1_000_000_000_000)
MAX_BUDGET_DECIMALS = 10
PERIODS = ("DAY", "WEEK", "MONTH", "TOTAL")

T = TypeVar("T")


class SettingsError(Exception):
    """A variable is missing or wrong; the message names it and what mends it."""


class SpendLimit(NamedTuple):
    """The most that may be spent, in major units of a currency, in each period: DAY, WEEK, MONTH or TOTAL."""

    limit: Decimal
    currency: str
    period: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator sets. Durations are in seconds, sizes in bytes."""

    host: str
    port: int
    data: Path
    database_url: str
    redis_url: str
    encryption_keys: tuple[Secret, ...]
    egress_allow: tuple[str, ...]
    grace_seconds: float
    drain_seconds: float
    echo: bool
    first_byte_seconds: float
    idle_seconds: float
    call_seconds: float
    max_attempts: int
    failover_seconds: float
    database_pool: int
    allowed_origins: tuple[str, ...]
    retention_days: int
    usage_retention_days: int
    workspace_requests_per_minute: int | None
    workspace_tokens_per_minute: int | None
    workspace_budget: SpendLimit | None
    operators_create_workspaces: bool
    hosted: OperatorFile | None
    products: OperatorFile | None
    order_seconds: float
    stripe_secret_key: Secret | None
    stripe_webhook_secret: Secret | None
    stripe_api_base: str
    stripe_return_url: str
    log_level: str
    providers: Path | None
    plugins: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Tell whether the API is reachable from this machine only."""
        return is_loopback_host(self.host)


def is_loopback_host(host: str) -> bool:
    """Tell whether a host to listen on is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_budget(limit: Decimal) -> bool:
    """Tell whether a budget can have this limit: positive, and neither too large nor too fine."""
    exponent = limit.as_tuple().exponent
    return 0 < limit <= MAX_BUDGET and isinstance(exponent, int) and -exponent <= MAX_BUDGET_DECIMALS


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ` gives, with defaults for what it leaves out.

    Raises:
        SettingsError: a variable is wrong; every wrong one is named, one a line.
    """
    reader = _Reader(environ)
    data = reader.take("DATA", Path, Path(".modelyard"))
    settings = Settings(
        host=reader.take("HOST", str, "127.0.0.1"),
        port=reader.take("PORT", _port, 8000),
        data=data,
        database_url=reader.take("DATABASE_URL", _database_url, f"sqlite+aiosqlite:///{data}/modelyard.db"),
        redis_url=reader.take("REDIS_URL", _redis_url, f"unix://{data}/valkey.sock"),
        encryption_keys=reader.take("ENCRYPTION_KEYS", _encryption_keys, ()),
        egress_allow=reader.take("EGRESS_ALLOW", _words, ()),
        grace_seconds=reader.take("GRACE_SECONDS", _not_negative, 30.0),
        drain_seconds=reader.take("DRAIN_SECONDS", _not_negative, 30.0),
        echo=reader.take("ECHO", _switch, False),
        first_byte_seconds=reader.take("FIRST_BYTE_SECONDS", _positive, 60.0),
        idle_seconds=reader.take("IDLE_SECONDS", _positive, 90.0),
        call_seconds=reader.take("CALL_SECONDS", _positive, 900.0),
        max_attempts=reader.take("MAX_ATTEMPTS", _count, 8),
        failover_seconds=reader.take("FAILOVER_SECONDS", _positive, 60.0),
        database_pool=reader.take("DATABASE_POOL", _count, 5),
        allowed_origins=reader.take("ALLOWED_ORIGINS", _origins, ()),
        retention_days=reader.take("RETENTION_DAYS", _count, 90),
        usage_retention_days=reader.take("USAGE_RETENTION_DAYS", _count, 730),
        workspace_requests_per_minute=reader.take("WORKSPACE_REQUESTS_PER_MINUTE", _per_minute, None),
        workspace_tokens_per_minute=reader.take("WORKSPACE_TOKENS_PER_MINUTE", _per_minute, None),
        workspace_budget=reader.take("WORKSPACE_BUDGET", _budget, None),
        hosted=reader.take("HOSTED", lambda text: read_hosted(Path(text), environ), None),
        products=reader.take("PRODUCTS", lambda text: read_products(Path(text)), None),
        order_seconds=reader.take("ORDER_SECONDS", _positive, 86_400.0),
        stripe_secret_key=reader.take("STRIPE_SECRET_KEY", _secret, None),
        stripe_webhook_secret=reader.take("STRIPE_WEBHOOK_SECRET", _secret, None),
        stripe_api_base=reader.take("STRIPE_API_BASE", _base, "https://api.stripe.com"),
        stripe_return_url=reader.take("STRIPE_RETURN_URL", _address, ""),
        operators_create_workspaces=reader.take("OPERATORS_CREATE_WORKSPACES", _switch, False),
        log_level=reader.take("LOG_LEVEL", _level, "INFO"),
        providers=reader.take("PROVIDERS", _path, None),
        plugins=reader.take("PLUGINS", _words, ()),
    )
    if not settings.encryption_keys and "MODELYARD_ENCRYPTION_KEYS" not in reader.wrong:
        reader.wrong["MODELYARD_ENCRYPTION_KEYS"] = (
            "is not set; give one or more keys of 32 random bytes in base64, the current one first, for example from "
            "`openssl rand -base64 32`"
        )
    if (settings.stripe_secret_key is None) is not (settings.stripe_webhook_secret is None):
        given, other = "MODELYARD_STRIPE_SECRET_KEY", "MODELYARD_STRIPE_WEBHOOK_SECRET"
        missing = given if settings.stripe_secret_key is None else other
        reader.wrong.setdefault(
            missing, f"is not set: the gateway stripe needs {given} and {other}; set both, or neither to do without it"
        )
    if reader.wrong:
        raise SettingsError("\n".join(f"{name} {problem}." for name, problem in reader.wrong.items()))
    return settings


class _Reader:
    """Takes variables one by one and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.wrong: dict[str, str] = {}

    def take(self, name: str, parse: Callable[[str], T], default: T) -> T:
        text = self._environ.get(PREFIX + name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.wrong[PREFIX + name] = str(error)
            return default


def _secret(text: str) -> Secret | None:
    return Secret(text)


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("must be an address that begins with https:// or http://")
    return text


def _base(text: str) -> str:
    parts = urlsplit(_address(text))
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an address without a user, a query or a fragment")
    return text.rstrip("/")


def _path(text: str) -> Path | None:
    return Path(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise ValueError(f"must be a port from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _per_minute(text: str) -> int | None:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PER_MINUTE:
        raise ValueError(f"must be a whole number from 1 to {MAX_PER_MINUTE:,}, not {text!r}")
    return int(text)


def _budget(text: str) -> SpendLimit | None:
    amount, currency, period = [*text.split(), "", "", ""][:3]
    try:
        limit = Decimal(amount)
    except InvalidOperation:
        limit = Decimal(0)
    if len(text.split()) != 3 or not limit.is_finite() or not is_budget(limit):
        raise ValueError(
            f"must be an amount of more than 0, at most {MAX_BUDGET:,}, with at most {MAX_BUDGET_DECIMALS} decimals, a "
            f"currency and a period, such as `100 USD MONTH`, not {text!r}"
        )
    if currency not in CURRENCIES:
        raise ValueError(f"names the currency {currency!r}, which is none; give its ISO 4217 code, such as USD")
    if period not in PERIODS:
        raise ValueError(f"names the period {period!r}; it is one of {', '.join(PERIODS)}")
    return SpendLimit(limit, currency, period)


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"must be a number of seconds of at least 0, not {text!r}")
    return value


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise ValueError("must be more than 0 seconds")
    return value


def _switch(text: str) -> bool:
    values = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
    if text.lower() not in values:
        raise ValueError(f"must be 1 or 0, not {text!r}")
    return values[text.lower()]


def _level(text: str) -> str:
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError(f"must be DEBUG, INFO, WARNING or ERROR, not {text!r}")
    return text.upper()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_PLACE = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(word) for word in _words(text))


def _origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, without the port that its scheme has anyway."""
    scheme, _, place = text.lower().removesuffix("/").partition("://")
    standard = {"http": ":80", "https": ":443"}.get(scheme)
    if not _SCHEME.fullmatch(scheme) or not _PLACE.fullmatch(place):
        raise ValueError(
            f"holds {text!r}, which is no origin; each is a scheme, a host and perhaps a port, such as "
            "https://app.example.com"
        )
    return f"{scheme}://{place.removesuffix(standard) if standard is not None else place}"


def _database_url(text: str) -> str:
    if not text.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
        raise ValueError("must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://")
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return text


def _encryption_keys(text: str) -> tuple[Secret, ...]:
    return tuple(_encryption_key(word) for word in _words(text))


def _encryption_key(text: str) -> Secret:
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("holds a key that is not base64") from None
    if len(key) != 32:
        raise ValueError(f"holds a key of {len(key)} bytes; each must have 32 random bytes")
    if len(set(key)) < 16:
        raise ValueError("holds a key that is not random (a published or sample key?); make one of 32 random bytes")
    return Secret(base64.b64encode(key).decode())
