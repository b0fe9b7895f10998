"""The view for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from tests.web.view import View, serving


@pytest.fixture
async def view() -> AsyncIterator[View]:
    """Return a running view."""
    async with serving() as started:
        yield started
