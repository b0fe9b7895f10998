"""The catalog of the manifests that ship, for tests that call nobody."""

from typing import Any

from core.catalog import catalog_of
from core.manifest_files import read_manifests

NOBODY: Any = None
CATALOG = catalog_of(read_manifests(), NOBODY)
