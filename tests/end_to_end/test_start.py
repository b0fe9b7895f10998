"""How each door meets a wrong file of the operator: it does not start, and says why in a line."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import KEY

HOSTED = "[providers.openai]\nvalues = {}\n[providers.nobody]\n"
PRODUCTS = """[products.pack]
name = "Pack"
unit = "CREDITS"
quota_amount = 0
price = 1
currency = "EUR"
"""


def test_a_wrong_file_stops_the_start_with_a_line_for_each_fault(tmp_path: Path) -> None:
    hosted, products = tmp_path / "hosted.toml", tmp_path / "products.toml"
    hosted.write_text(HOSTED)
    products.write_text(PRODUCTS)
    own = {"MODELYARD_DATA": str(tmp_path / "data"), "MODELYARD_ENCRYPTION_KEYS": KEY, "MODELYARD_PORT": "0"}
    given = {key: value for key, value in os.environ.items() if not key.startswith("MODELYARD_")} | own
    asked = (("web", "HOSTED", hosted), ("workers", "PRODUCTS", products), ("storage.embedded", "HOSTED", hosted))

    doors = [
        subprocess.Popen(
            [sys.executable, "-m", door],
            env=given | {f"MODELYARD_{name}": str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for door, name, path in asked
    ]
    told = [door.communicate(timeout=60) for door in doors]

    assert [(door.returncode, said) for door, (said, _) in zip(doors, told, strict=True)] == [(2, "")] * 3
    web, workers, embedded = ([line.partition("; there are")[0] for line in error.splitlines()] for _, error in told)
    assert web == embedded == [
        f"MODELYARD_HOSTED ({hosted}): providers.openai.values.api_key: The field 'API key' is required.",
        f"MODELYARD_HOSTED ({hosted}): providers.nobody: there is no such provider",
    ]  # fmt: skip
    assert workers == [f"MODELYARD_PRODUCTS ({products}): products.pack.quota_amount: expected `int` >= 1."]
