"""The client for browsers that the documentation gives, in a real browser, over connections that are cut."""

import asyncio
import os
import subprocess

import pytest

from core.settings import Settings
from tests.end_to_end.test_explorer import FOLDER, browser
from tests.fake_provider import FakeProvider
from tests.product import Product, serving


@pytest.mark.parametrize("grace_s", ["60"])
async def test_it_goes_on_by_itself_over_fetch_and_over_a_socket(
    product: Product, product_settings: Settings, provider: FakeProvider
) -> None:
    text = "".join(f"{number:03} ☂ " for number in range(60))
    provider.answers(model="long", text=text, pieces=60, delay_s=0.03)
    await product.add_model("long", provider.url)
    async with serving(product_settings, product.token) as other:
        env = {
            **os.environ,
            "BROWSER": await asyncio.to_thread(browser),
            "API_URLS": f"{product.url},{other.url}",
            "API_TOKEN": product.token,
            "API_MODEL": "long",
            "API_TEXT": text,
        }

        done = await asyncio.to_thread(
            subprocess.run,
            ["node", "client.mjs"],
            cwd=FOLDER,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("ok  ") == 4
    assert len(provider.calls) == 2
