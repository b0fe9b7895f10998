"""The explorer in a real browser, on the real product."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.product import Product

FOLDER = Path(__file__).resolve().parents[1] / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str:
    """Return a browser, with what drives it installed; skip where this machine has none."""
    found = os.environ.get("BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed and BROWSER is not set")
    if shutil.which("npm") is None:
        pytest.skip("a browser, but no Node.js with npm, which drives it")
    with (FOLDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of another process may want the same
        if not (FOLDER / "node_modules").is_dir():
            command = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=FOLDER, check=True, timeout=300)
    return found


async def test_it_works_in_a_real_browser(product: Product) -> None:
    env = {
        **os.environ,
        "BROWSER": await asyncio.to_thread(browser),
        "EXPLORER_URL": f"{product.url}/",
        "EXPLORER_TOKEN": product.token,
    }

    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "explorer.mjs"],
        cwd=FOLDER,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("ok  ") >= 18
