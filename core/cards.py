"""What is known of a model that no manifest lists: of a custom one, and of one that the provider's own list names."""

import re
from collections.abc import Mapping
from dataclasses import replace

from core.model_types import ModelType
from core.provider import FormFieldType, Manifest, ModelCard, ParameterRule, RemoteModel

_DATE = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


def custom_card(manifest: Manifest, name: str, model_type: ModelType, values: Mapping[str, str]) -> ModelCard:
    """Return what is known of a custom model: the manifest's defaults of its type, over them its form values."""
    custom = manifest.custom_model
    base = _base(manifest, model_type, values.get(custom.base or ""))
    features = set(base.features)
    for feature, field in custom.features.items():
        if field in values:
            (features.add if values[field] == "true" else features.discard)(feature)
    properties = {
        name: _property(manifest, field, values[field])
        for name, field in custom.properties.items()
        if values.get(field)
    }
    limit = _whole(values.get(custom.max_output_tokens or "")) or base.max_output_tokens
    return replace(
        base,
        name=name,
        label=name,
        features=frozenset(features),
        context_window=_whole(values.get(custom.context_window or "")) or base.context_window,
        max_output_tokens=limit,
        properties={**base.properties, **properties},
        parameter_rules=tuple(bounded(rule, limit) for rule in base.parameter_rules),
    )


def remote_card(manifest: Manifest, remote: RemoteModel) -> ModelCard:
    """Return what is known of a model that the provider's list names: the defaults of its type, over them the list.

    Of a snapshot, a listed name with a date behind it, it is what is known of the model; but not its price, which may
    have been another.
    """
    base = (
        manifest.model(_DATE.sub("", remote.name), remote.type)
        or manifest.defaults.get(remote.type)
        or ModelCard(name="", label="", type=remote.type)
    )
    limit = remote.max_output_tokens or base.max_output_tokens
    return replace(
        base,
        name=remote.name,
        label=remote.label or remote.name,
        features=base.features if remote.features is None else remote.features,
        context_window=remote.context_window or base.context_window,
        max_output_tokens=limit,
        parameter_rules=tuple(bounded(rule, limit) for rule in base.parameter_rules),
        pricing=None,
        deprecated=remote.gone,
    )


def bounded(rule: ParameterRule, max_output_tokens: int | None) -> ParameterRule:
    """Return a rule with what the model can write as the most that `max_tokens` may be."""
    if rule.name != "max_tokens" or max_output_tokens is None:
        return rule
    return replace(rule, max=max_output_tokens)


def _base(manifest: Manifest, model_type: ModelType, name: str | None) -> ModelCard:
    """Return what a custom model is before its form values: the base model that it names, or the type's defaults."""
    named = (card for card in manifest.base_models if card.name == name and card.type is model_type)
    default = manifest.defaults.get(model_type) or ModelCard(name="", label="", type=model_type)
    return next(named, default)


def _property(manifest: Manifest, field: str, text: str) -> str | int:
    """Return a form value as a property: a NUMBER as a number."""
    types = {one.name: one.type for one in manifest.model_credential_form}
    return int(text) if types.get(field) is FormFieldType.NUMBER else text


def _whole(text: str | None) -> int | None:
    return int(text) if text else None
