"""The values of a credential as a request carries them: text in clear, headers that HTTP can carry, addresses."""

import re

import msgspec

from core.errors import InvalidInput, UpstreamAuthentication
from core.provider import Values
from core.secret import Secret
from core.wire.http import check_header


def text_of(values: Values, name: str) -> str:
    """Return a field's value in clear without blanks around it; "" where it has none."""
    value = values.get(name, "")
    return (value.reveal() if isinstance(value, Secret) else value).strip()


def bearer(key: str) -> dict[str, str]:
    """Return the header that carries a key; none for an empty key.

    Raises:
        UpstreamAuthentication: no header can carry it.
    """
    key = key.removeprefix("Bearer ").strip()
    return {"authorization": f"Bearer {checked_key(key)}"} if key else {}


def required_key(values: Values) -> str:
    """Return the key of a provider that takes no call without one.

    Raises:
        UpstreamAuthentication: there is none, or no header can carry it.
    """
    key = text_of(values, "api_key").removeprefix("Bearer ").strip()
    if not key:
        raise UpstreamAuthentication("The API key is missing.", path=("api_key",))
    return checked_key(key)


def checked_key(key: str) -> str:
    """Return a key that a header can carry.

    Raises:
        UpstreamAuthentication: none can, or there are blanks in it, which are in no key.
    """
    if len(key.split()) > 1 and key.isprintable():
        raise UpstreamAuthentication(
            "The key holds a blank: enter it alone, as the provider shows it.", path=("api_key",)
        )
    try:
        check_header("authorization", key)
    except ValueError:
        raise UpstreamAuthentication(
            "The key holds line breaks or characters that no key has; enter it again as the provider shows it.",
            path=("api_key",),
        ) from None
    return key


def checked_header(field: str, name: str, value: str) -> str:
    """Return the value of a form field as a header takes it.

    Raises:
        InvalidInput: no header can carry it.
    """
    try:
        check_header(name, value)
    except ValueError as error:
        raise InvalidInput(f"The field cannot be sent: {error}.", path=(field,)) from None
    return value


def extra_headers(text: str) -> dict[str, str]:
    """Return the headers of a field that holds one `Name: value` a line, or a JSON object of them.

    Raises:
        InvalidInput: it is neither, or holds a header that may not be set.
    """
    try:
        headers = _header_object(text) if text.startswith("{") else _header_lines(text)
        for name, value in headers.items():
            check_header(name, value)
    except ValueError as error:
        raise InvalidInput(f"The extra headers cannot be used: {error}.", path=("extra_headers",)) from None
    return headers


def base_url(values: Values, default: str | None, pasted: re.Pattern[str], field: str = "base_url") -> str:
    """Return where the API begins: the field's value, or `default`.

    `pasted` finds what people paste behind it: this dialect adds that itself.

    Raises:
        InvalidInput: it is missing, or has such an ending; the text says what to enter.
    """
    url = text_of(values, field) or default
    if not url:
        raise InvalidInput("The base URL is missing.", path=(field,))
    if found := pasted.search(url):
        raise InvalidInput(
            f"Leave {found[0]} out, it is added to every request: enter {url[: found.start()]}.", path=(field,)
        )
    return url


def _header_object(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, str])
    except msgspec.MsgspecError:
        raise ValueError("they are not a JSON object of texts") from None


def _header_lines(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("each line must be of the form `Name: value`")
        headers[name.strip()] = value.strip()
    return headers
