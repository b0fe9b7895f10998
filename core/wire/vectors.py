"""Vectors as providers send them: lists of numbers, or little-endian 32-bit floats in base64."""

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Sequence

from core.errors import UpstreamProtocol
from core.model_types.text_embedding import EmbeddingRequest

Sent = list[float] | str


def vectors_of(sent: Sequence[Sent], request: EmbeddingRequest) -> tuple[Sequence[float], ...]:
    """Return one vector of finite numbers for each text, all of one size, that which was asked for.

    Raises:
        UpstreamProtocol: the provider sent something else.
    """
    if len(sent) != len(request.texts):
        raise UpstreamProtocol(f"The provider answered {len(request.texts)} texts with {len(sent)} vectors.")
    vectors = tuple(_unpacked(one) if isinstance(one, str) else one for one in sent)
    size = request.dimensions or len(vectors[0])
    if any(len(vector) != size for vector in vectors) or size == 0:
        raise UpstreamProtocol(f"The provider's vectors do not all have {size or 'any'} dimensions.")
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise UpstreamProtocol("The provider's vectors hold values that are no finite numbers.")
    return vectors


def _unpacked(text: str) -> list[float]:
    floats = array("f")
    try:
        floats.frombytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise UpstreamProtocol("The provider's vectors are no base64 of 32-bit floats.") from None
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()
