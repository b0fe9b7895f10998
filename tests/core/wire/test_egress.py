"""The guard lets public addresses through, what the operator lists, and nothing else."""

import ipaddress
import socket

import pytest

from core.errors import InvalidInput, UpstreamUnavailable
from core.wire.egress import Egress, EgressDenied, Target, is_public, normalise_base_url, targeting
from core.wire.http import UNREACHABLE, Http
from tests.fake_provider import FakeProvider

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "ff02::1",
    "ff0e::1",
    "100::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "104.18.6.192",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]
METADATA = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
]
EVERYTHING = ["0.0.0.0/0:*", "[::/0]:*"]


def https(host: str, port: int = 443) -> Target:
    return Target(scheme="https", host=host, port=port)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_denied(address: str) -> None:
    assert not Egress().permits(https("example.com"), ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed_over_https(address: str) -> None:
    guard, parsed = Egress(), ipaddress.ip_address(address)

    assert is_public(parsed)
    assert guard.permits(https("example.com"), parsed)
    assert guard.permits(https("example.com", 80), parsed)
    assert not guard.permits(https("example.com", 8443), parsed)
    assert not guard.permits(Target(scheme="http", host="example.com", port=80), parsed)


@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_address_is_denied_whatever_is_listed(address: str) -> None:
    guard = Egress([*EVERYTHING, "metadata.internal:80"])

    assert not guard.permits(Target(scheme="http", host="metadata.internal", port=80), ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("entry", "target", "address", "allowed"),
    [
        ("localhost:11434", Target(scheme="http", host="localhost", port=11434), "127.0.0.1", True),
        ("localhost:11434", Target(scheme="http", host="localhost", port=11434), "::1", True),
        ("localhost:11434", Target(scheme="http", host="localhost", port=11435), "127.0.0.1", False),
        ("localhost:11434", Target(scheme="http", host="other", port=11434), "127.0.0.1", False),
        ("LocalHost:*", Target(scheme="http", host="localhost", port=1), "127.0.0.1", True),
        ("127.0.0.0/8:*", Target(scheme="http", host="localhost", port=9), "127.0.0.1", True),
        ("127.0.0.0/8:*", Target(scheme="http", host="localhost", port=9), "::ffff:127.0.0.1", True),
        ("127.0.0.0/8:*", Target(scheme="http", host="localhost", port=9), "10.0.0.1", False),
        ("10.0.0.0/8:443", Target(scheme="https", host="in.example", port=443), "10.9.9.9", True),
        ("10.0.0.0/8:443", Target(scheme="https", host="in.example", port=8443), "10.9.9.9", False),
        ("10.1.2.3:8000", Target(scheme="http", host="in.example", port=8000), "10.1.2.3", True),
        ("[::1]:8000", Target(scheme="http", host="::1", port=8000), "::1", True),
        ("[fd12::/16]:*", Target(scheme="http", host="in.example", port=8000), "fd12::1", True),
        ("example.com:80", Target(scheme="http", host="example.com", port=80), "8.8.8.8", True),
    ],
)
def test_an_entry_allows_what_it_names(entry: str, target: Target, address: str, *, allowed: bool) -> None:
    assert Egress([entry]).permits(target, ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "localhost",
        "localhost:",
        ":80",
        "localhost:0",
        "localhost:65536",
        "::1:80",
        "10.0.0.1/8:80",
        "a b:80",
        "300.1.1.1:80",
        "10.0.0/33:1",
    ],
)
def test_an_entry_that_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=repr(entry).replace(".", r"\.")):
        Egress([entry])


def test_a_connection_without_a_target_is_denied() -> None:
    with pytest.raises(EgressDenied):
        Egress(EVERYTHING).check_connection("8.8.8.8")


def test_a_connection_is_checked_for_the_target_it_is_for() -> None:
    guard = Egress(["localhost:80"])

    with targeting(Target(scheme="http", host="localhost", port=80)):
        guard.check_connection("127.0.0.1")
    with targeting(https("localhost")), pytest.raises(EgressDenied):
        guard.check_connection("127.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ],
)
async def test_no_spelling_of_loopback_is_connected_to(host: str, provider: FakeProvider) -> None:
    async with Http.open(egress=Egress(["example.com:*"])) as http:
        with pytest.raises(UpstreamUnavailable) as failed:
            await http.request("GET", f"http://{host}:{provider.port}/v1/models", headers={})

    assert failed.value.message == UNREACHABLE
    assert provider.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "0x7f.1"])
async def test_the_same_spellings_lead_to_loopback_where_it_is_listed(host: str, provider: FakeProvider) -> None:
    async with Http.open(egress=Egress(["127.0.0.0/8:*", "0.0.0.0/32:*"])) as http:
        reply = await http.request("GET", f"http://{host}:{provider.port}/v1/models", headers={})

    assert reply.status == 200


async def test_a_name_that_leads_to_loopback_is_not_connected_to(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rebound(host: object, port: object, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    async with Http.open(egress=Egress(["10.0.0.0/8:*"])) as http:
        with pytest.raises(UpstreamUnavailable) as failed:
            await http.request("GET", f"http://harmless.example:{provider.port}/v1/models", headers={})

    assert failed.value.message == UNREACHABLE
    assert provider.requests == []


async def test_what_the_operator_lists_is_connected_to(provider: FakeProvider) -> None:
    async with Http.open(egress=Egress([f"localhost:{provider.port}"])) as http:
        reply = await http.request("GET", f"http://localhost:{provider.port}/v1/models", headers={})

    assert reply.status == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1",
        "https://127.0.0.1/v1",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "https://2130706433/v1",
        "https://0x7f.1/v1",
        "https://localhost/v1",
        "https://8.8.8.8:8443/v1",
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
    ],
)
def test_a_url_that_could_never_be_called_is_refused_with_what_mends_it(url: str) -> None:
    with pytest.raises(InvalidInput, match="MODELYARD_EGRESS_ALLOW") as refused:
        Egress().check_url(url, path=("base_url",))

    assert refused.value.path == ("base_url",)


@pytest.mark.parametrize("url", ["https://169.254.169.254/latest", "http://[::ffff:169.254.169.254]/v1"])
def test_nobody_is_told_how_to_allow_what_is_never_allowed(url: str) -> None:
    with pytest.raises(InvalidInput, match="never called") as refused:
        Egress(["0.0.0.0/0:*", "169.254.169.254:443"]).check_url(url, path=("base_url",))

    assert refused.value.path == ("base_url",)
    assert "MODELYARD" not in refused.value.message


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://8.8.8.8/v1", "https://in.example/v1"])
def test_a_url_whose_address_decides_later_passes(url: str) -> None:
    Egress().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "http://localhost./a.png",
        "https://0x7f.1/a.png",
        "https://[::ffff:10.0.0.1]/a.png",
        "https://168.63.129.16/a.png",
        "http://169.254.169.254/a.png",
    ],
)
def test_a_private_address_is_given_to_no_provider_to_read(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Egress().check_reference(url, path=("url",))

    assert refused.value.path == ("url",)


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "https://example.com:8443/a.png", "http://8.8.8.8/a.png", "https://a.example/"]
)
def test_how_a_provider_reads_a_public_address_is_its_own_affair(url: str) -> None:
    Egress().check_reference(url)


def test_a_private_address_that_the_operator_lists_may_be_read_by_a_provider() -> None:
    Egress(["127.0.0.1:8123"]).check_reference("http://127.0.0.1:8123/a.png")


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("127.0.0.0/8:*", "http://127.0.0.1:11434/v1"),
        ("127.0.0.0/8:*", "http://localhost:11434/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("10.0.0.0/8:8000", "http://in.example:8000/v1"),
    ],
)
def test_a_url_that_the_operator_lists_passes(entry: str, url: str) -> None:
    Egress([entry]).check_url(url)


@pytest.mark.parametrize(
    ("entered", "stored"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("  https://API.Example.com/v1/ \n", "https://api.example.com/v1"),
        ("HTTPS://api.example.com:443/v1//", "https://api.example.com/v1"),
        ("http://localhost:11434", "http://localhost:11434"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
        ("https://api.example.com/v1/chat/completions/", "https://api.example.com/v1"),
        ("https://api.example.com/v1/models", "https://api.example.com/v1"),
        ("https://api.example.com/V1/Path", "https://api.example.com/V1/Path"),
        ("http://[::0001]:8000/v1", "http://[::1]:8000/v1"),
        ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
    ],
)
def test_a_base_url_gets_its_canonical_form_and_keeps_it(entered: str, stored: str) -> None:
    assert normalise_base_url(entered) == stored
    assert normalise_base_url(stored) == stored


@pytest.mark.parametrize(
    "entered",
    [
        "",
        "api.example.com/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user:password@api.example.com/v1",
        "https://@api.example.com/v1",
        "https://api.example.com/v1?key=1",
        "https://api.example.com/v1?",
        "https://api.example.com/v1#there",
        "https://api.example.com:0/v1",
        "https://api.example.com:99999/v1",
        "https://api.example.com:x/v1",
        "https://api example.com/v1",
        "https://api.example.com\\@other.example/v1",
        "https://api.example.com/v1\r\nhost: other",
        "https://-/v1",
        "https://[::g]/v1",
    ],
)
def test_a_base_url_that_is_none_is_refused_with_its_path(entered: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise_base_url(entered, path=("values", "base_url"))

    assert refused.value.path == ("values", "base_url")
