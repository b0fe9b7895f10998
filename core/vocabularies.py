"""The published vocabularies of OpenAI: how many tokens a text is, counted on this machine."""

import functools
import importlib.util
import logging
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

NAMES = frozenset({"o200k_base", "cl100k_base"})
"""The vocabularies there are; manifests name that of a model as the property `vocabulary`."""

LARGEST = 50_000
"""The bytes of text up to which counting is worth its time: it holds the interpreter, 5 ms at the worst for so many."""

_PACKAGE, _EXTENSION = "bpe_openai", "_bindings"


class Vocabulary(Protocol):
    """Cuts texts into tokens."""

    def count(self, text: str) -> int:
        """Return how many tokens a text is, special ones taken as the text that they are.

        Raises:
            UnicodeEncodeError: it has halves of surrogate pairs.
        """
        ...


@functools.cache
def vocabulary(name: str) -> Vocabulary | None:
    """Return a vocabulary, loaded when first asked for (60 ms, 65 MB); None where this platform has none."""
    if name not in NAMES or (path := _extension()) is None:
        return None
    try:
        spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{_EXTENSION}", path)
        assert spec is not None
        assert isinstance(spec.loader, ExtensionFileLoader)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded: Vocabulary = module.tokenizer_for_encoding(name)
    except (ImportError, AttributeError, ValueError):
        log.warning("the vocabulary %s cannot be loaded; texts count by their bytes", name, exc_info=True)
        return None
    return loaded


def _extension() -> Path | None:
    """Return the compiled part of the package: its Python part would read every vocabulary once more (0.7 s, 69 MB)."""
    package = importlib.util.find_spec(_PACKAGE)
    folders = package.submodule_search_locations if package is not None else None
    return next((path for folder in folders or () for path in Path(folder).glob(f"{_EXTENSION}.*.so")), None)
