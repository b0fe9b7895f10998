"""Which servers a call may reach: the guard that looks at every address at the moment it is connected to."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from core.errors import InvalidInput
from core.settings import Settings, SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

VARIABLE = "MODELYARD_EGRESS_ALLOW"

_DEFAULT_PORTS = {"http": 80, "https": 443}

_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure, and most others
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "168.63.129.16",  # Azure platform
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # GCP over IPv6
    )
)

# What `is_global` of Python 3.11 lets through, or newer registrations that it does not know.
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "3fff::/20")
)
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")

_LOOPBACK_NAMES = frozenset({"localhost", "localhost."})

_ENTRY = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^\[\]:]+)):(?P<port>\*|[0-9]{1,5})")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")

_PASTED = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|models|audio/(?:speech|transcriptions)|moderations)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request wants to go, as its URL says it; `host` is lower case."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowEntry:
    """One target that the operator allows: a host name or a network, with one port or (None) any."""

    host: str | None
    network: Network | None
    port: int | None

    def covers(self, target: Target, address: Address | None) -> bool:
        """Tell whether it allows `target` at `address`; None is an address that is not known yet."""
        if self.port is not None and self.port != target.port:
            return False
        if self.network is None:
            return self.host == target.host
        return address is not None and address.version == self.network.version and address in self.network


class EgressDenied(OSError):
    """The guard refuses the address; the text is for the log of operators, never for callers."""


_target: ContextVar[Target | None] = ContextVar("egress_target", default=None)


class Egress:
    """The rules of one installation: public addresses over https, and what its operator allows beyond."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        """Read the operator's list of `host:port`, `CIDR:port` and `[IPv6 or CIDR]:port`; the port may be `*`.

        Raises:
            ValueError: an entry cannot be read; the text names it.
        """
        self._allow = tuple(_parse_entry(entry) for entry in allow)

    def permits(self, target: Target, address: Address) -> bool:
        """Tell whether a connection for `target` to `address` is allowed."""
        candidates = (address, *embedded(address))
        if any(candidate in _METADATA for candidate in candidates):
            return False
        actual = _unmapped(address)
        if any(entry.covers(target, actual) for entry in self._allow):
            return True
        return _is_standard(target) and all(is_public(candidate) for candidate in candidates)

    def check_connection(self, sockaddr_host: str) -> None:
        """Refuse to connect to this address for the target set by `targeting`; without a target all is refused.

        Raises:
            EgressDenied: the rules do not allow it.
        """
        target = _target.get()
        address = ipaddress.ip_address(sockaddr_host.partition("%")[0])
        if target is None or not self.permits(target, address):
            raise EgressDenied(f"{address} is not an address that {target} may reach")

    def check_url(self, url: str, *, path: tuple[str, ...] = ()) -> None:
        """Refuse, without asking the network, a URL that could never be called.

        A host name passes where its address decides: that is looked at on every connection.

        Raises:
            InvalidInput: the text says what mends it.
        """
        target = target_of(url)
        address = _literal(target.host)
        allowed = any(entry.covers(target, address) for entry in self._allow)
        where = f"{target.host}:{target.port}"
        if address is not None:
            if any(candidate in _METADATA for candidate in (address, *embedded(address))):
                raise InvalidInput(f"{where} tells secrets of the machine: it is never called.", path=path)
            if not self.permits(target, address):
                raise InvalidInput(_denied(where, "is not a public https address"), path=path)
        elif not allowed and target.host in _LOOPBACK_NAMES and not self._allows_loopback(target):
            raise InvalidInput(_denied(where, "is this server itself"), path=path)
        elif not allowed and not _is_standard(target) and not self._allows_some_network(target):
            raise InvalidInput(_denied(where, f"({target.scheme}) is not https on port 443"), path=path)

    def check_reference(self, url: str, *, path: tuple[str, ...] = ()) -> None:
        """Refuse a URL that a provider is to read where it names a private address, unless the operator allows that.

        How it is read, by which scheme and at which port, is the provider's affair.

        Raises:
            InvalidInput: the text says what mends it.
        """
        host = target_of(url).host
        address = _literal(host)
        is_private = host in _LOOPBACK_NAMES
        if address is not None:
            candidates = (address, *embedded(address))
            is_private = any(one in _METADATA or not is_public(one) for one in candidates)
        if is_private:
            self.check_url(url, path=path)

    def _allows_loopback(self, target: Target) -> bool:
        return any(self.permits(target, ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1"))

    def _allows_some_network(self, target: Target) -> bool:
        return any(entry.network is not None and entry.port in {None, target.port} for entry in self._allow)


@contextmanager
def targeting(target: Target) -> Iterator[None]:
    """Name the target that connections opened inside the block are for."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def egress_of(settings: Settings) -> Egress:
    """Return the guard that the settings describe.

    Raises:
        SettingsError: an entry of the allow-list is wrong.
    """
    try:
        return Egress(settings.egress_allow)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} holds a wrong entry: {error}.") from error


def target_of(url: str) -> Target:
    """Return where an absolute http or https URL points."""
    parts = urlsplit(url)
    return Target(
        scheme=parts.scheme,
        host=(parts.hostname or "").lower(),
        port=parts.port or _DEFAULT_PORTS.get(parts.scheme, 0),
    )


def is_loopback(url: str) -> bool:
    """Tell whether a URL names the machine, or the container, that asks for it."""
    host = target_of(url).host
    address = _literal(host)
    return host in _LOOPBACK_NAMES or (address is not None and _unmapped(address).is_loopback)


def is_public(address: Address) -> bool:
    """Tell whether an address is a globally routed unicast one; what it embeds is not looked at."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return True  # a translator's prefix: the embedded address decides
        if address in _IPV6_UNICAST and address.sixtofour is not None:
            return True
        if address not in _IPV6_UNICAST:
            return _unmapped(address) is not address
    if any(address.version == network.version and address in network for network in _NEVER_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_unspecified


def embedded(address: Address) -> tuple[Address, ...]:
    """Return the IPv4 addresses that an IPv6 address leads or may lead to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    found: list[Address] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if address in _NAT64 or address in _NAT64_LOCAL or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(found)


def normalise_base_url(text: str, *, path: tuple[str, ...] = ()) -> str:
    """Return the canonical form of a base URL that a person entered.

    Blanks around it, trailing slashes, a pasted endpoint path (`/chat/completions` and the like) and a default port are
    dropped; scheme and host become lower case.

    Raises:
        InvalidInput: not an absolute http or https URL, or it holds a user, a query or a fragment.
    """
    stripped = text.strip()
    if not stripped.isprintable() or " " in stripped or "\\" in stripped:
        raise InvalidInput("The URL must not hold blanks, backslashes or control characters.", path=path)
    if "://" not in stripped:
        raise InvalidInput("The URL must begin with https:// or http://.", path=path)
    try:
        parts = urlsplit(stripped)
        host, port = _host(parts), parts.port
    except ValueError:
        raise InvalidInput("The URL's host or port cannot be read.", path=path) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidInput("The URL must begin with https:// or http://.", path=path)
    if "@" in parts.netloc:
        raise InvalidInput("The URL must not hold a user name or password; enter the key in its field.", path=path)
    if port == 0:
        raise InvalidInput("The URL's port must be from 1 to 65535.", path=path)
    authority = host if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{port}"
    url = f"{parts.scheme}://{authority}{_base_path(parts.path)}"
    if parts.query or parts.fragment or stripped.endswith(("?", "#")):
        raise InvalidInput(f"The URL must not hold a query (?) or a fragment (#): enter {url}.", path=path)
    return url


def _base_path(path: str) -> str:
    return _PASTED.sub("", path.rstrip("/")).rstrip("/")


def _host(parts: SplitResult) -> str:
    name = (parts.hostname or "").lower()
    if ":" in name:
        return f"[{ipaddress.IPv6Address(name)}]"
    ascii_name = name.encode("idna").decode() if not name.isascii() else name
    if not _HOST.fullmatch(ascii_name):
        raise ValueError("not a host name")
    return ascii_name


def _denied(where: str, what: str) -> str:
    return f"{where} {what}. An operator can allow it with the setting {VARIABLE}, for example {VARIABLE}={where}."


def _is_standard(target: Target) -> bool:
    return target.scheme == "https" and target.port in {80, 443}


def _unmapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _literal(host: str) -> Address | None:
    """Return the address that a host is when it is written as one, in the old numeric forms of IPv4 too."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _old_ipv4(host)


def _old_ipv4(host: str) -> Address | None:
    """Read `2130706433`, `0x7f.1`, `0177.0.0.1` and the like as the C library does."""
    fields = host.removesuffix(".").split(".")
    if not 1 <= len(fields) <= 4:
        return None
    try:
        numbers = [int(field, 8 if re.fullmatch(r"0[0-7]+", field) else 0) for field in fields]
        *high, low = numbers
        if any(number > 255 for number in high):
            return None
        value = sum(number << (24 - 8 * place) for place, number in enumerate(high)) + low
        return ipaddress.IPv4Address(value)
    except ValueError:
        return None


def _parse_entry(text: str) -> AllowEntry:
    entry = text.strip().lower()
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f"{text!r} is not of the form host:port, CIDR:port or [IPv6]:port")
    port = None if match["port"] == "*" else int(match["port"])
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"{text!r} has a port that is not from 1 to 65535")
    name = match["bracketed"] or match["plain"]
    try:
        return AllowEntry(host=None, network=ipaddress.ip_network(name), port=port)
    except ValueError:
        is_name = _HOST.fullmatch(name) and not name.rpartition(".")[2].isdecimal()
        if match["bracketed"] or not is_name or _literal(name) is not None:
            raise ValueError(f"{text!r} names neither a host nor a network (no host bits may be set)") from None
        return AllowEntry(host=name, network=None, port=port)
