"""Manifests as TOML files: read strictly, so that a wrong one says where and what."""

import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec

from core.cards import bounded
from core.errors import InvalidInput
from core.forms import check_form
from core.model_types import ModelFeature, ModelType
from core.parameters import TEMPLATES
from core.provider import (
    ConfigurationMethod,
    CustomModel,
    FormCondition,
    FormField,
    FormFieldType,
    FormOption,
    LongInputPrice,
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


_Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
_Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2_147_483_647)]
_LAST = 1000


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


class _Beyond(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The price of a million tokens in calls with long input."""

    above_input_tokens: _Count
    input: _Amount
    output: _Amount | None = None
    cached_input: _Amount | None = None
    cache_write: _Amount | None = None
    hour_cache_write: _Amount | None = None

    def price(self) -> LongInputPrice:
        """Return the exact price."""
        return LongInputPrice(
            above_input_tokens=self.above_input_tokens,
            input=Decimal(self.input),
            output=_decimal(self.output),
            cached_input=_decimal(self.cached_input),
            cache_write=_decimal(self.cache_write),
            hour_cache_write=_decimal(self.hour_cache_write),
        )


class _Price(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A price of a million units, exact because it is text."""

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    input: _Amount
    output: _Amount | None = None
    cached_input: _Amount | None = None
    cache_write: _Amount | None = None
    hour_cache_write: _Amount | None = None
    unit: PricingUnit = PricingUnit.TOKEN
    beyond: _Beyond | None = None

    def pricing(self) -> Pricing:
        """Return the exact price."""
        return Pricing(
            currency=self.currency,
            input=Decimal(self.input),
            output=_decimal(self.output),
            cached_input=_decimal(self.cached_input),
            cache_write=_decimal(self.cache_write),
            hour_cache_write=_decimal(self.hour_cache_write),
            unit=self.unit,
            beyond=self.beyond.price() if self.beyond is not None else None,
        )


class _Model(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A model, or the defaults of a type (without a name)."""

    type: ModelType
    name: str = ""
    label: str | None = None
    features: frozenset[ModelFeature] = frozenset()
    context_window: _Count | None = None
    max_output_tokens: _Count | None = None
    properties: dict[str, Any] = {}
    parameters: tuple[_Rule | str, ...] = ()
    price: _Price | None = None
    deprecated: bool = False

    def card(self, position: int) -> ModelCard:
        """Return the card; the highest `max_tokens` is what the model can write."""
        rules = [(_Rule(use=rule) if isinstance(rule, str) else rule).rule() for rule in self.parameters]
        return ModelCard(
            name=self.name,
            label=self.label or self.name,
            type=self.type,
            features=self.features,
            context_window=self.context_window,
            max_output_tokens=self.max_output_tokens,
            properties=self.properties,
            parameter_rules=tuple(bounded(rule, self.max_output_tokens) for rule in rules),
            pricing=self.price.pricing() if self.price is not None else None,
            deprecated=self.deprecated,
            position=position,
        )


class _Condition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Shows a field or an option."""

    field: str
    value: str

    def condition(self) -> FormCondition:
        """Return the condition that is meant."""
        return FormCondition(field=self.field, value=self.value)


class _Option(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A value to choose."""

    value: str
    label: str
    show_on: tuple[_Condition, ...] = ()

    def option(self) -> FormOption:
        """Return the option that is meant."""
        return FormOption(value=self.value, label=self.label, show_on=_conditions(self.show_on))


class _Field(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A field of a form."""

    name: _Name
    label: str
    type: FormFieldType
    required: bool = False
    default: str | None = None
    placeholder: str | None = None
    help: str | None = None
    max_length: _Count | None = None
    decides_host: bool = False
    options: tuple[_Option, ...] = ()
    show_on: tuple[_Condition, ...] = ()

    def field(self) -> FormField:
        """Return the field that is meant."""
        return FormField(
            **msgspec.structs.asdict(self)
            | {
                "options": tuple(option.option() for option in self.options),
                "show_on": _conditions(self.show_on),
            }
        )


class _Custom(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which fields of the model's form describe a custom model."""

    base: str | None = None
    context_window: str | None = None
    max_output_tokens: str | None = None
    features: dict[ModelFeature, str] = {}
    properties: dict[str, str] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    name: _Name
    label: str
    description: str
    dialect: str
    model_types: tuple[ModelType, ...]
    methods: frozenset[ConfigurationMethod]
    position: int = _LAST
    aliases: tuple[_Name, ...] = ()
    icon_url: str | None = None
    help_url: str | None = None
    prices_from: str | None = None
    prices_as_of: str | None = None
    credential_form: tuple[_Field, ...] = ()
    model_credential_form: tuple[_Field, ...] = ()
    models: tuple[_Model, ...] = ()
    base_models: tuple[_Model, ...] = ()
    defaults: tuple[_Model, ...] = ()
    custom_model: _Custom = msgspec.field(default_factory=_Custom)
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
        file = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
        for problem in _problems(file, path):
            raise ManifestError(problem)
        return _manifest(file)
    except (OSError, ValueError, ManifestError) as error:
        raise ManifestError(f"{path.name}: {error}") from error


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
        credential_form=tuple(field.field() for field in file.credential_form),
        model_credential_form=tuple(field.field() for field in file.model_credential_form),
        models=tuple(model.card(number) for number, model in enumerate(file.models)),
        base_models=tuple(model.card(number) for number, model in enumerate(file.base_models)),
        defaults={model.type: model.card(0) for model in file.defaults},
        position=file.position,
        custom_model=CustomModel(**msgspec.structs.asdict(file.custom_model)),
        keyless=file.keyless,
        options=file.options,
    )


def _problems(file: _File, path: Path) -> Iterator[str]:
    """Yield what is wrong with a file whose keys and types are right."""
    if file.name != path.stem:
        yield f"`name` is {file.name!r}, not that of the file"
    yield from _method_problems(file)
    for form in ("credential_form", "model_credential_form"):
        yield from _form_problems(form, getattr(file, form))
    keys = [(model.type, model.name) for model in file.models]
    for number, model in enumerate(file.models):
        if not model.name or (model.type, model.name) in keys[:number]:
            yield f"`models` number {number + 1} has no name of its own"
    for model in (*file.models, *file.base_models, *file.defaults):
        if model.type not in file.model_types:
            yield f"{model.name or 'a default'!r} has the type {model.type}, which `model_types` does not name"
        if model.price is not None and not (file.prices_from and file.prices_as_of):
            yield "prices need `prices_from` and `prices_as_of`"
    yield from _custom_problems(file)


def _method_problems(file: _File) -> Iterator[str]:
    if not file.methods:
        yield "`methods` is empty"
    if ConfigurationMethod.CUSTOMIZABLE_MODEL in file.methods and not file.model_credential_form:
        yield "CUSTOMIZABLE_MODEL needs a `model_credential_form`"
    if (ConfigurationMethod.PREDEFINED_MODEL in file.methods) is not bool(file.models):
        yield "PREDEFINED_MODEL and `models` go together"
    if file.methods - {ConfigurationMethod.CUSTOMIZABLE_MODEL} and not (file.credential_form or file.keyless):
        yield "models of the provider's own need a `credential_form`, or `keyless`"


def _form_problems(form: str, given: tuple[_Field, ...]) -> Iterator[str]:
    """Yield what is wrong with a form. Conditions look at what stands before them, so that none goes in a circle."""
    before: dict[str, _Field] = {}
    for field in given:
        where = f"`{form}` {field.name!r}"
        if field.name in before or field.name == "model_type":
            yield f"{where} is a name that is taken"
        if bool(field.options) is not (field.type in _CHOICES):
            yield f"{where}: options belong to SELECT and RADIO, and these need some"
        if field.type is FormFieldType.URL and not field.decides_host:
            yield f"{where}: a URL says where keys are sent: it needs `decides_host = true`"
        if field.decides_host and field.type is FormFieldType.SECRET:
            yield f"{where}: a secret does not decide the host"
        conditions = [*field.show_on, *(condition for option in field.options for condition in option.show_on)]
        for condition in conditions:
            if condition.field != "model_type" and condition.field not in before:
                yield f"{where} is shown on {condition.field!r}, which does not stand before it"
            elif condition.field != "model_type" and before[condition.field].type is FormFieldType.SECRET:
                yield f"{where} is shown on the secret {condition.field!r}"
        yield from _default_problems(where, field)
        before[field.name] = field


def _default_problems(where: str, field: _Field) -> Iterator[str]:
    if field.default is None:
        return
    if field.type is FormFieldType.SECRET:
        yield f"{where}: a secret has no default"
    shown = replace(
        field.field(), show_on=(), options=tuple(replace(one.option(), show_on=()) for one in field.options)
    )
    try:
        check_form((shown,), {field.name: field.default}, None, normalise_url=str)
    except InvalidInput as error:
        yield f"{where}: the default is wrong: {error.message}"


def _custom_problems(file: _File) -> Iterator[str]:
    types = {field.name: field.type for field in file.model_credential_form}
    custom = file.custom_model
    for key in ("context_window", "max_output_tokens"):
        name = getattr(custom, key)
        if name is not None and types.get(name) is not FormFieldType.NUMBER:
            yield f"`custom_model.{key}` names {name!r}, which is no NUMBER of `model_credential_form`"
    for feature, name in custom.features.items():
        if types.get(name) is not FormFieldType.SWITCH:
            yield f"`custom_model.features.{feature}` names {name!r}, which is no SWITCH of `model_credential_form`"

    if (custom.base is not None) is not bool(file.base_models):
        yield "`custom_model.base` and `base_models` go together"
    if custom.base is not None:
        options = (option for one in file.model_credential_form if one.name == custom.base for option in one.options)
        offered = {
            (option.value, shown.value.upper())
            for option in options
            for shown in option.show_on
            if shown.field == "model_type"
        }
        if offered != {(model.name, model.type.value) for model in file.base_models}:
            yield f"the options of {custom.base!r}, each shown on its `model_type`, are not the names of `base_models`"
    for key, name in custom.properties.items():
        if name not in types or types[name] in {FormFieldType.SECRET, FormFieldType.URL}:
            yield f"`custom_model.properties.{key}` names {name!r}, which is no public field of `model_credential_form`"


_CHOICES = frozenset({FormFieldType.SELECT, FormFieldType.RADIO})


def _conditions(given: tuple[_Condition, ...]) -> tuple[FormCondition, ...]:
    return tuple(condition.condition() for condition in given)


def _decimal(text: str | None) -> Decimal | None:
    return Decimal(text) if text is not None else None
