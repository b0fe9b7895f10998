"""A value that shows itself to nobody, and the secrets that tokens and invitations are."""

import base64
import hashlib
import os
from typing import final

PREFIX = "my_"
INVITATION_PREFIX = "inv_"
SHOWN = 9
"""How many characters of a bearer secret are stored to be shown, its fixed prefix included."""


@final
class Secret:
    """A string that `repr`, `str`, formatting and pickling do not show; `reveal` is for the last line before use."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value in clear."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised")


def new_secret(prefix: str = PREFIX) -> Secret:
    """Return a new secret of 256 random bits."""
    return Secret(prefix + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("="))


def hash_secret(secret: str) -> bytes:
    """Return what is stored and looked up of a token's or invitation's secret: its SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
