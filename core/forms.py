"""The rules of credential forms: what is shown, what may be entered, how it is stored, how it is masked."""

from collections.abc import Callable, Iterable, Mapping

from core.errors import InvalidInput
from core.model_types import ModelType
from core.provider import FormCondition, FormField, FormFieldType, FormOption, Value, Values
from core.secret import Secret

MAX_LENGTH = 8192
"""The longest value of a field that names no limit of its own, in characters."""

_STARS = "*" * 12
_MODEL_TYPE = "model_type"


def check_form(
    form: Iterable[FormField],
    given: Mapping[str, str | None],
    model_type: ModelType | None,
    *,
    normalise_url: Callable[[str], str],
    stored: Values | None = None,
) -> Values:
    """Return the values to store: those given over those stored, defaults filled in, each in its canonical form.

    With `stored` it is an update: a field left out keeps its value, None clears an optional one, and where a field that
    decides the host changes, every secret must be given again.

    Raises:
        InvalidInput: with the path of the field that is wrong.
    """
    fields = {field.name: field for field in form}
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInput(f"There is no field {name!r}; the fields are: {known}.", path=("values", name))
    entered = {name: _parse(fields[name], text, normalise_url) for name, text in given.items() if text is not None}
    kept = {name: value for name, value in (stored or {}).items() if name in fields and name not in given}
    values = {**kept, **{name: value for name, value in entered.items() if value}}
    if stored:
        _check_host(fields.values(), stored, values, entered)
    return _complete(fields.values(), values, given, model_type)


def visible(conditions: tuple[FormCondition, ...], values: Mapping[str, Value], model_type: ModelType | None) -> bool:
    """Tell whether a field or option with these conditions is shown: any of them holds, or there are none."""
    return not conditions or any(_holds(condition, values, model_type) for condition in conditions)


def mask(secret: str) -> str:
    """Return what is shown of a secret: its ends around stars, stars alone for a short one."""
    return f"{secret[:6]}{_STARS}{secret[-2:]}" if len(secret) >= 24 else _STARS


def shown(value: Value) -> str:
    """Return what is shown of a stored value."""
    return mask(value.reveal()) if isinstance(value, Secret) else value


def _complete(
    fields: Iterable[FormField],
    values: Mapping[str, Value],
    given: Mapping[str, str | None],
    model_type: ModelType | None,
) -> Values:
    """Keep what is shown and fill defaults in, in the order of the form."""
    result: dict[str, Value] = {}
    for field in fields:
        context = {**values, **result}
        if not visible(field.show_on, context, model_type):
            if given.get(field.name):
                raise _wrong(field, "does not belong to what else was entered; leave it out")
            continue
        value = values.get(field.name)
        if value is None and field.default is not None and (field.required or field.name not in given):
            value = _parse(field, field.default, str)
        if not value:
            if field.required:
                raise _wrong(field, "is required")
            continue
        _check_option(field, value, context, model_type)
        result[field.name] = value
    return result


def _holds(condition: FormCondition, values: Mapping[str, Value], model_type: ModelType | None) -> bool:
    if condition.field == _MODEL_TYPE:
        return model_type is not None and condition.value.upper() == model_type.value
    return values.get(condition.field) == condition.value


def _parse(field: FormField, text: str, normalise_url: Callable[[str], str]) -> Value:
    """Return one value in its canonical form; empty text gives an empty value."""
    text = text.strip()
    limit = field.max_length or MAX_LENGTH
    if len(text) > limit:
        raise _wrong(field, f"has at most {limit} characters")
    if not text:
        return ""
    match field.type:
        case FormFieldType.SECRET:
            return Secret(_clean_secret(text))
        case FormFieldType.URL:
            return _parse_url(field, text, normalise_url)
        case FormFieldType.NUMBER:
            return _parse_number(field, text)
        case FormFieldType.SWITCH:
            if text.lower() not in {"true", "false"}:
                raise _wrong(field, "is either true or false")
            return text.lower()
    return text


def _parse_url(field: FormField, text: str, normalise_url: Callable[[str], str]) -> str:
    try:
        return normalise_url(text)
    except InvalidInput as error:
        error.path = ("values", field.name)
        raise


def _parse_number(field: FormField, text: str) -> str:
    digits = text.replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdecimal() or int(digits) == 0:
        raise _wrong(field, "is a whole number above 0")
    return str(int(digits))


def _clean_secret(text: str) -> str:
    """Take off what is pasted along with a key: quotes and the word Bearer."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    if text.lower().startswith("bearer "):
        text = text[7:].strip()
    return text


def _check_option(field: FormField, value: Value, values: Mapping[str, Value], model_type: ModelType | None) -> None:
    if field.type not in {FormFieldType.SELECT, FormFieldType.RADIO}:
        return
    offered = [option.value for option in field.options if _offered(option, values, model_type)]
    if value not in offered:
        raise _wrong(field, f"is one of: {', '.join(offered)}")


def _offered(option: FormOption, values: Mapping[str, Value], model_type: ModelType | None) -> bool:
    return visible(option.show_on, values, model_type)


def _check_host(
    fields: Iterable[FormField], stored: Values, values: Mapping[str, Value], entered: Mapping[str, Value]
) -> None:
    """A stored key never travels to a new host."""
    moved = [field for field in fields if field.decides_host and stored.get(field.name) != values.get(field.name)]
    if not moved:
        return
    for name, value in stored.items():
        if isinstance(value, Secret) and name in values and name not in entered:
            raise InvalidInput(
                f"{moved[0].label!r} decides where the secret {name!r} is sent: enter the secret again with it.",
                path=("values", name),
            )


def _wrong(field: FormField, rule: str) -> InvalidInput:
    return InvalidInput(f"The field {field.label!r} {rule}.", path=("values", field.name))
