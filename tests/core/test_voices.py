"""Which voices speak a language."""

import pytest

from core.model_types.tts import Voice
from core.voices import speaks


@pytest.mark.parametrize(
    ("spoken", "wanted", "does"),
    [
        ((), "en", True),
        (("en",), None, True),
        (("en",), "en", True),
        (("en",), "en-GB", True),
        (("en-GB",), "en", True),
        (("en-GB",), "EN-gb", True),
        (("en-GB",), "en-US", False),
        (("fr", "de"), "de", True),
        (("fr",), "en", False),
    ],
)
def test_a_voice_is_found_by_the_language_that_it_speaks(
    spoken: tuple[str, ...], wanted: str | None, does: bool
) -> None:
    assert speaks(Voice(id="v", name="V", languages=spoken), wanted) is does
