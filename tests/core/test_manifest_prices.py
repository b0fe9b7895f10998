"""The prices of manifests are rebuilt from a list: exactly, and nothing else of the file."""

import json
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from core.manifest_files import FOLDER, read_manifest
from core.manifest_prices import rebuilt
from core.price_lists import read_list

MANIFEST = """name = "gemini"
label = "Gemini"
description = "Some."
dialect = "gemini"
position = 1
model_types = ["LLM", "TTS"]
methods = ["PREDEFINED_MODEL"]
prices_from = "litellm 1.0.0"
prices_as_of = "2026-01-01"

[[credential_form]]
name = "api_key"
label = "API key"
type = "SECRET"

[[models]]
name = "gemini-a"  # the one that people like
type = "LLM"
price = { input = "1", output = "2" }
properties = { thinking = "level" }

[[models]]
name = "gemini-b"
type = "LLM"
price = { input = "3", output = "4" }

[[models]]
name = "gemini-tts"
type = "TTS"
price = { unit = "CHARACTER", input = "15" }
"""
LIST = """{
  "gemini/gemini-a": {"litellm_provider": "gemini", "input_cost_per_token": 3e-07, "output_cost_per_token": 2.5e-06,
    "cache_read_input_token_cost": 3e-08, "input_cost_per_token_above_200k_tokens": 6e-07,
    "output_cost_per_token_above_200k_tokens": 3.75e-06},
  "gemini/gemini-b": {"litellm_provider": "gemini", "input_cost_per_token": 0, "output_cost_per_token": 0},
  "gemini-b": {"litellm_provider": "vertex_ai", "input_cost_per_token": 9e-06},
  "gemini/gemini-tts": {"litellm_provider": "gemini", "input_cost_per_token": 1e-06}
}"""
PRICES = json.loads(LIST, parse_float=Decimal)


def test_prices_are_exact_and_the_rest_is_as_it_was() -> None:
    made = rebuilt(MANIFEST, PRICES, source="litellm 2.0.0", as_of="2026-11-21")

    beyond = 'beyond = { above_input_tokens = 200000, input = "0.6", output = "3.75" }'
    expected = MANIFEST.replace(
        'price = { input = "1", output = "2" }',
        f'price = {{ input = "0.3", output = "2.5", cached_input = "0.03", {beyond} }}',
    )
    expected = expected.replace("litellm 1.0.0", "litellm 2.0.0").replace("2026-01-01", "2026-11-21")
    assert made.text == expected
    assert [note.split(":")[0] for note in made.notes] == ["gemini/gemini-a", "gemini/gemini-b"]


def test_what_is_rebuilt_is_a_manifest_and_stays_as_it_is_the_next_time(tmp_path: Path) -> None:
    made = rebuilt(MANIFEST, PRICES, source="litellm 2.0.0", as_of="2026-11-21")
    path = tmp_path / "gemini.toml"
    path.write_text(made.text, "utf-8")

    pricing = read_manifest(path).models[0].pricing

    assert pricing is not None
    assert pricing.beyond is not None
    assert (pricing.input, pricing.beyond.output) == (Decimal("0.3"), Decimal("3.75"))
    assert rebuilt(made.text, PRICES, source="litellm 3.0.0", as_of="2027-01-01").text == made.text


@pytest.mark.parametrize(
    ("provider", "table", "theirs"),
    [
        ("azure_openai", "base_models", "azure"),
        ("cohere", "models", "cohere"),
        ("cohere", "models", "cohere_chat"),
        ("together", "models", "together_ai"),
    ],
)
def test_prices_are_found_by_the_lists_own_names(provider: str, table: str, theirs: str) -> None:
    text = f'name = "{provider}"\n\n[[{table}]]\nname = "m"\ntype = "TEXT_EMBEDDING"\nprice = {{ input = "1" }}\n'
    prices = {f"{theirs}/m": {"litellm_provider": theirs, "input_cost_per_token": Decimal("2e-8")}}

    made = rebuilt(text, prices, source="litellm 2.0.0", as_of="2026-11-21")

    assert made.text == text.replace('input = "1"', 'input = "0.02"')


def test_a_list_says_its_version_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "litellm-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("litellm/model_prices_and_context_window_backup.json", LIST)

    assert read_list(path, "2026-11-21") == ("litellm 2.0.0", PRICES)
    with pytest.raises(ValueError, match=r"other\.whl"):
        read_list(path.rename(tmp_path / "other.whl"), "2026-11-21")


ROUTED = """
from decimal import Decimal
from types import SimpleNamespace as Made

def model(name, **prices):
    return Made(id=name, get_prices=lambda at: Made(**prices, at=at))

long_input = Made(base=Decimal("2"), tiers=[Made(start=272000, price=Decimal("4"))])
providers = [
    Made(id="openai", models=[model("gpt", input_mtok=Decimal(9))]),
    Made(id="openrouter", models=[
        model("openai/gpt", input_mtok=long_input, output_mtok=Decimal("10"), cache_read_mtok=None),
        model("searching/one", input_mtok=Decimal(1), requests_kcount=Decimal(5)),
    ]),
]
"""


def test_prices_of_a_router_are_read_from_the_list_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "genai_prices-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("genai_prices/__init__.py", "")
        wheel.writestr("genai_prices/data.py", ROUTED)
    for name in ("genai_prices", "genai_prices.data"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    source, prices = read_list(path, "2026-11-21")
    for name in ("genai_prices", "genai_prices.data"):
        monkeypatch.delitem(sys.modules, name)

    assert source == "genai-prices 1.2.3"
    assert prices == {
        "openai/gpt": {
            "litellm_provider": "openrouter",
            "input_cost_per_token": Decimal("0.000002"),
            "input_cost_per_token_above_272k_tokens": Decimal("0.000004"),
            "output_cost_per_token": Decimal("0.00001"),
        }
    }


def test_a_check_changes_nothing_that_ships(tmp_path: Path) -> None:
    path = tmp_path / "litellm-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("litellm/model_prices_and_context_window_backup.json", "{}")
    before = {file.name: file.read_bytes() for file in FOLDER.glob("*.toml")}

    done = subprocess.run(
        [sys.executable, "-m", "core.manifest_prices", str(path), "--as-of", "2026-11-21", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "openai/gpt-4o: the list has no price" in done.stdout
    assert "openrouter" not in done.stdout, "its prices are of another list"
    assert {file.name: file.read_bytes() for file in FOLDER.glob("*.toml")} == before
