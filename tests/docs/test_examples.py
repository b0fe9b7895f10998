"""The examples of docs/providers.md: found as an operator would add them, and put to the conformance kit."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from core.catalog import Catalog, discover
from core.manifest_files import read_manifest
from core.model_types import ModelType
from core.parameters import TEMPLATES
from core.provider import ConfigurationMethod, FormFieldType, ParameterType, PricingUnit, Provider, Values
from core.providers import openai_compatible
from core.secret import Secret
from core.wire.http import Http
from tests.conformance import KEY, Conformance

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
SHOUT = EXAMPLES / "shout"
NOBODY: Http = None  # type: ignore[assignment]

sys.path.insert(0, str(SHOUT))
shout: Any = importlib.import_module("shout")
test_shout: Any = importlib.import_module("test_shout")


class TestVoyage(Conformance):
    """A manifest and no code."""

    manifest = read_manifest(EXAMPLES / "providers" / "voyage.toml")

    def build(self, http: Http) -> Provider:
        return openai_compatible.build(self.manifest, http)

    def values(self, url: str) -> Values:
        return {"base_url": f"{url}/v1", "api_key": Secret(KEY)}


TestShout = test_shout.TestShout


def test_the_kit_runs_where_a_package_is_written(tmp_path: Path) -> None:
    shutil.copytree(SHOUT, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "1"}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "mine" / "test_shout.py")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_package_brings_its_manifests_along() -> None:
    project = tomllib.loads((SHOUT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]

    assert project["packages"] == ["shout"]
    packed = {path for glob in project["package-data"]["shout"] for path in (SHOUT / "shout").glob(glob)}
    assert packed == set(shout.PLUGIN.manifests.glob("*.toml")) != set()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the example package as an installer would: by its metadata on the path."""
    project = (SHOUT / "pyproject.toml").read_text("utf-8")
    (point,) = re.findall(r"^shout = \"(.*)\"$", project, re.MULTILINE)
    metadata = tmp_path / "modelyard_shout-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: modelyard-shout\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[modelyard.providers]\nshout = {point}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def names(catalog: Catalog) -> set[str]:
    return {manifest.name for manifest in catalog.manifests()}


def test_an_installed_package_is_used_once_it_is_allowed(installed: Path) -> None:
    without = discover(NOBODY, echo=False)
    with_it = discover(NOBODY, echo=False, plugins=("modelyard_shout",))
    with_all = discover(NOBODY, echo=False, plugins=("*",))

    assert names(with_it) - names(without) == {"shout"}
    assert names(with_all) == names(with_it)
    assert with_it.problems == ()
    assert isinstance(with_it.providers["shout"], shout.Shout)
    (problem,) = without.problems
    assert "modelyard-shout" in problem
    assert "MODELYARD_PLUGINS" in problem


def test_a_folder_of_manifests_is_used_as_it_is() -> None:
    found = discover(NOBODY, echo=False, folder=EXAMPLES / "providers")

    assert found.problems == ()
    assert found.canonical("Voyage AI") == "voyage"
    voyage = found.providers["voyage"]
    assert voyage.manifest.model("voyage-4", ModelType.TEXT_EMBEDDING) is not None
    assert voyage.text_embedding is not None


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("raise RuntimeError('no luck')", "no luck"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("PLUGIN = None", "NoneType"),
        ("OTHER = 1", "AttributeError"),
        ("from core.plugins import Plugin\nPLUGIN = Plugin(build=print, api_version=2)", "version 2"),
        (
            "from core.plugins import Plugin\nasync def build(m, h): ...\nPLUGIN = Plugin(build=build)",
            "no plain function",
        ),
    ],
)
def test_a_broken_package_is_named_and_harms_nothing(
    module: str, says: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "broken_adapter.py").write_text(module)
    points = installed / "modelyard_shout-1.0.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "aaa = broken_adapter:PLUGIN\n")
    monkeypatch.delitem(sys.modules, "broken_adapter", raising=False)

    found = discover(NOBODY, echo=True, plugins=("*",))

    monkeypatch.delitem(sys.modules, "broken_adapter", raising=False)
    assert "shout" in names(found)
    assert "openai" in names(found)
    (problem,) = found.problems
    assert "'aaa'" in problem
    assert says in problem


VOYAGE = (EXAMPLES / "providers" / "voyage.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("aaa.toml", "name = ", "aaa.toml"),
        ("other.toml", VOYAGE, "not that of the file"),
        ("openai.toml", VOYAGE.replace('"voyage"', '"openai"'), "another provider's already"),
        ("zzz.toml", VOYAGE.replace('"voyage"', '"zzz"'), "another provider's already"),
        ("zzz.toml", VOYAGE.replace('"voyage"', '"zzz"').replace("voyage_ai", "openai"), "another provider's already"),
        ("aaa.toml", VOYAGE.replace('"voyage"', '"aaa"').replace("openai_compatible", "telepathy"), "telepathy"),
        ("aaa.toml", VOYAGE.replace('"voyage"', '"aaa"').replace("max_texts = 128\n", "max_text = 128\n"), "max_text"),
    ],
)
def test_a_broken_manifest_is_named_and_harms_nothing(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / "voyage.toml").write_text(VOYAGE)
    (tmp_path / name).write_text(text)

    found = discover(NOBODY, echo=True, folder=tmp_path)

    assert {"openai", "echo", "voyage"} <= names(found)
    (problem,) = found.problems
    assert name.removesuffix(".toml") in problem
    assert says in problem
    assert found.providers["openai"].manifest.label == "OpenAI"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = discover(NOBODY, echo=True, folder=tmp_path / "nowhere")

    assert len(found.problems) == 1
    assert "nowhere" in found.problems[0]
    assert "openai" in names(found)


def test_the_page_names_every_key_of_a_manifest() -> None:
    from core.manifest_files import _File, _Rule

    page = (DOCS / "providers.md").read_text("utf-8")

    assert [key for key in _File.__struct_fields__ if f"`{key}`" not in page and f"[{key}]" not in page] == []
    words = [*TEMPLATES, *_Rule.__struct_fields__, *ConfigurationMethod, *FormFieldType, *ParameterType, *PricingUnit]
    assert [word for word in words if f"`{word}`" not in page] == []
