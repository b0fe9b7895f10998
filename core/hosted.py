"""The providers that the installation hosts: the operator's file, checked against the catalog."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec

from core.cards import custom_card
from core.catalog import Catalog
from core.configuration import Grant, HostedModel, HostedProvider
from core.entities import BudgetPeriod, QuotaType, QuotaUnit
from core.errors import InvalidInput
from core.forms import check_form
from core.model_types import ModelKey, ModelType
from core.operator_files import OperatorFile, entries_of
from core.provider import Manifest
from core.secret import Secret
from core.settings import SettingsError

MAX_AMOUNT = 2**53 - 1
"""The largest amount of a quota."""

_Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
_Credits = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2_147_483_647)]


class _Grant(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A quota that every workspace is given once; `limit` left out: without end."""

    type: QuotaType
    unit: QuotaUnit
    limit: _Amount | None = None
    resets_every: BudgetPeriod | None = None


class _Model(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A model that the provider's manifest does not have."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    type: ModelType
    context_window: _Count | None = None
    max_output_tokens: _Count | None = None


class _Provider(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is hosted of a provider."""

    values: dict[str, Any] = {}
    models: tuple[str | _Model, ...] | None = None
    base_models: dict[str, str] = {}
    credits: dict[str, _Credits] = {}
    grants: tuple[_Grant, ...] = ()


def hosted_of(
    given: OperatorFile, catalog: Catalog, normalise_url: Callable[[str], str]
) -> Mapping[str, HostedProvider]:
    """Return the hosted providers by canonical name.

    Raises:
        SettingsError: something in the file is wrong; each fault is a line that names its place, never a value.
    """
    entries, wrong = entries_of(given, "providers", _Provider)
    found: dict[str, HostedProvider] = {}
    for name, entry in entries.items():
        manifest = catalog.manifest(catalog.canonical(name) or "")
        if manifest is None:
            wrong.append(f"providers.{name}: there is no such provider; there are {', '.join(catalog.providers)}")
            continue
        if manifest.name in found:
            wrong.append(f"providers.{name}: {manifest.name} stands there twice")
        problems = list(_problems(manifest, entry))
        wrong += [f"providers.{name}.{problem}" for problem in problems]
        if not problems:
            try:
                found[manifest.name] = _hosted(manifest, entry, normalise_url)
            except InvalidInput as error:
                wrong.append(f"providers.{name}.{'.'.join(error.path)}: {error.message.rstrip('.')}")
    if wrong:
        raise SettingsError("\n".join(f"MODELYARD_HOSTED ({given.path}): {line}." for line in wrong))
    return found


def _problems(manifest: Manifest, entry: _Provider) -> Iterator[str]:
    """Yield what is wrong with an entry whose keys and types are right."""
    if entry.models is None and not manifest.models:
        yield f"models: {manifest.name} has none of its own: name those hosted, as {{ name = …, type = … }}"
    own = {card.name for card in manifest.models}
    listed = {model.name for model in entry.models or () if isinstance(model, _Model)}
    for model in entry.models or ():
        if isinstance(model, str) and model not in own:
            yield f"models: {manifest.name} has no predefined model {model!r}"
        if isinstance(model, _Model) and model.type not in manifest.model_types:
            yield f"models: {manifest.name} serves no models of type {model.type}"
    for table, names in (("base_models", entry.base_models), ("credits", entry.credits)):
        for name in names:
            if name not in own | listed:
                yield f"{table}: {manifest.name} has no model {name!r} here"
    for grant in entry.grants:
        if grant.type is QuotaType.PAID:
            yield "grants: PAID quota is bought, not given"
        if grant.limit is None and grant.type is QuotaType.TRIAL:
            yield "grants: a trial needs a `limit`"
    if len({grant.type for grant in entry.grants}) < len(entry.grants):
        yield "grants: there is one of each type"


def _hosted(manifest: Manifest, entry: _Provider, normalise_url: Callable[[str], str]) -> HostedProvider:
    form, model_type = manifest.credential_form, None
    if not form and manifest.model_credential_form:
        form, model_type = manifest.model_credential_form, manifest.model_types[0]
    given = {
        field: value.reveal() if isinstance(value, Secret) else str(value) for field, value in entry.values.items()
    }
    return HostedProvider(
        name=manifest.name,
        models=_models(manifest, entry),
        base_models=entry.base_models,
        credits=entry.credits,
        values=check_form(form, given, model_type, normalise_url=normalise_url),
        grants=tuple(
            Grant(
                type=one.type,
                unit=one.unit,
                limit=one.limit,
                resets_every=one.resets_every if one.resets_every is not BudgetPeriod.TOTAL else None,
            )
            for one in entry.grants
        ),
    )


def _models(manifest: Manifest, entry: _Provider) -> Mapping[ModelKey, HostedModel] | None:
    """Return the allow-list; None: every predefined model."""
    if entry.models is None:
        return None
    found: dict[ModelKey, HostedModel] = {}
    for model in entry.models:
        if isinstance(model, str):
            for card in manifest.models:
                if card.name == model:
                    key = ModelKey(provider=manifest.name, name=card.name, type=card.type)
                    found[key] = HostedModel(key=key)
            continue
        key = ModelKey(provider=manifest.name, name=model.name, type=model.type)
        limits = {
            manifest.custom_model.context_window: model.context_window,
            manifest.custom_model.max_output_tokens: model.max_output_tokens,
        }
        values = {field: str(value) for field, value in limits.items() if field is not None and value is not None}
        found[key] = HostedModel(key=key, card=custom_card(manifest, model.name, model.type, values))
    return found
