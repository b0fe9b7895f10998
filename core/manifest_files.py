"""Manifests as TOML files: read strictly, so that a wrong one says where and what."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from core.model_types import ModelFeature, ModelType
from core.parameters import TEMPLATES
from core.provider import (
    ConfigurationMethod,
    CustomModel,
    FormField,
    Manifest,
    ModelCard,
    ParameterRule,
    ParameterType,
    Pricing,
    PricingUnit,
)

FOLDER = Path(__file__).parent / "manifests"


class ManifestError(Exception):
    """A manifest file is wrong; the message names the file and the key."""


class _Rule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A parameter rule: `use` names a template, everything else is its own or changes the template."""

    use: str | None = None
    name: str | None = None
    label: str | None = None
    type: ParameterType | None = None
    help: str | None = None
    required: bool | None = None
    default: Any = None
    min: float | None = None
    max: float | None = None
    precision: int | None = None
    options: tuple[str, ...] | None = None

    def rule(self) -> ParameterRule:
        """Return the rule that is meant."""
        own = {name: value for name in _RULE_FIELDS if (value := getattr(self, name)) is not None}
        if self.use is not None:
            if self.use not in TEMPLATES:
                raise ManifestError(f"there is no rule template {self.use!r}; there are: {', '.join(TEMPLATES)}")
            return replace(TEMPLATES[self.use], **own)
        if self.name is None or self.type is None:
            raise ManifestError("a parameter rule needs `use`, or `name` and `type`")
        return ParameterRule(**{"label": self.name, **own})


_RULE_FIELDS = tuple(field.name for field in fields(ParameterRule))


class _Price(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A price of a million units, with where and when it was read."""

    currency: str = "USD"
    input: str
    output: str | None = None
    cached_input: str | None = None
    cache_write: str | None = None
    unit: PricingUnit = PricingUnit.TOKEN

    def pricing(self) -> Pricing:
        """Return the exact price."""
        return Pricing(
            currency=self.currency,
            input=Decimal(self.input),
            output=_decimal(self.output),
            cached_input=_decimal(self.cached_input),
            cache_write=_decimal(self.cache_write),
            unit=self.unit,
        )


class _Model(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A model, or the defaults of a type (without a name)."""

    type: ModelType
    name: str = ""
    label: str | None = None
    features: frozenset[ModelFeature] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    properties: dict[str, Any] = {}
    parameters: tuple[_Rule | str, ...] = ()
    price: _Price | None = None
    deprecated: bool = False

    def card(self, position: int) -> ModelCard:
        """Return the card; the highest `max_tokens` is what the model can write."""
        rules = [TEMPLATES[rule] if isinstance(rule, str) else rule.rule() for rule in self.parameters]
        return ModelCard(
            name=self.name,
            label=self.label or self.name,
            type=self.type,
            features=self.features,
            context_window=self.context_window,
            max_output_tokens=self.max_output_tokens,
            properties=self.properties,
            parameter_rules=tuple(_bounded(rule, self.max_output_tokens) for rule in rules),
            pricing=self.price.pricing() if self.price is not None else None,
            deprecated=self.deprecated,
            position=position,
        )


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    name: str
    label: str
    description: str
    dialect: str
    position: int
    model_types: tuple[ModelType, ...]
    methods: frozenset[ConfigurationMethod]
    aliases: tuple[str, ...] = ()
    icon_url: str | None = None
    help_url: str | None = None
    prices_from: str | None = None
    prices_as_of: str | None = None
    credential_form: tuple[FormField, ...] = ()
    model_credential_form: tuple[FormField, ...] = ()
    models: tuple[_Model, ...] = ()
    defaults: tuple[_Model, ...] = ()
    custom_model: CustomModel = msgspec.field(default_factory=CustomModel)
    keyless: bool = False
    options: dict[str, Any] = {}


def read_manifests(folder: Path = FOLDER) -> Iterator[Manifest]:
    """Yield the manifests of a folder, by the names of their files.

    Raises:
        ManifestError: a file is wrong; the message names it.
    """
    for path in sorted(folder.glob("*.toml")):
        yield read_manifest(path)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a file.

    Raises:
        ManifestError: the file is wrong; the message names it and the key.
    """
    try:
        return _manifest(msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File))
    except (OSError, ValueError, KeyError, ManifestError) as error:
        raise ManifestError(f"{path.name}: {error}") from error


def custom_card(manifest: Manifest, name: str, model_type: ModelType, values: Mapping[str, str]) -> ModelCard:
    """Return what is known of a custom model: the manifest's defaults of its type, over them its form values."""
    base = manifest.defaults.get(model_type) or ModelCard(name="", label="", type=model_type)
    custom = manifest.custom_model
    features = set(base.features)
    for feature, field in custom.features.items():
        if field in values:
            (features.add if values[field] == "true" else features.discard)(feature)
    limit = _whole(values.get(custom.max_output_tokens or "")) or base.max_output_tokens
    return replace(
        base,
        name=name,
        label=name,
        features=frozenset(features),
        context_window=_whole(values.get(custom.context_window or "")) or base.context_window,
        max_output_tokens=limit,
        parameter_rules=tuple(_bounded(rule, limit) for rule in base.parameter_rules),
    )


def _manifest(file: _File) -> Manifest:
    return Manifest(
        name=file.name,
        label=file.label,
        description=file.description,
        model_types=file.model_types,
        methods=file.methods,
        dialect=file.dialect,
        aliases=file.aliases,
        icon_url=file.icon_url,
        help_url=file.help_url,
        credential_form=file.credential_form,
        model_credential_form=file.model_credential_form,
        models=tuple(model.card(number) for number, model in enumerate(file.models)),
        defaults={model.type: model.card(0) for model in file.defaults},
        position=file.position,
        custom_model=file.custom_model,
        keyless=file.keyless,
        options=file.options,
    )


def _bounded(rule: ParameterRule, max_output_tokens: int | None) -> ParameterRule:
    if rule.name != "max_tokens" or max_output_tokens is None:
        return rule
    return replace(rule, max=max_output_tokens)


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def _decimal(text: str | None) -> Decimal | None:
    return Decimal(text) if text is not None else None
