"""The catalog of the manifests that ship, for tests that call nobody."""

from core.catalog import catalog_of
from core.manifest_files import read_manifests

CATALOG = catalog_of(read_manifests(), None)  # type: ignore[arg-type] - nothing is called
