"""The conformance kit, put to Shout."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import shout

from core.manifest_files import read_manifest
from core.model_types import ModelType
from core.provider import Provider, Values
from core.secret import Secret
from core.wire.http import Http
from tests.conformance import KEY, Conformance
from tests.fake_provider import FakeProvider, Scenario


class TestShout(Conformance):
    """Every rule of the kit, for one adapter."""

    manifest = read_manifest(Path(shout.__file__).parent / "manifests" / "shout.toml")
    healthy: ClassVar[Mapping[ModelType, Scenario]] = {
        ModelType.LLM: Scenario(body=b'{"text": "HELLO", "read": 1, "written": 1}')
    }

    def build(self, http: Http) -> Provider:
        """Return the adapter."""
        return shout.Shout(self.manifest, http)

    def values(self, url: str) -> Values:
        """Return a credential whose calls go to the kit's server."""
        return {"base_url": url, "api_key": Secret(KEY)}

    def validates_well(self, server: FakeProvider) -> None:
        """Answer well at the path by which a credential is tried."""
        server.answers_at("/state", Scenario(body=b'{"ok": true}'))
