"""The rules of credential forms: what is shown, what may be entered, how it is stored, how it is masked."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from core.errors import InvalidInput
from core.model_types import ModelType
from core.provider import FormCondition, FormField, FormFieldType, FormOption, Value, Values
from core.secret import Secret

MAX_LENGTH = 8192
"""The longest value of a field that names no limit of its own, in characters."""

MAX_NUMBER = 2_147_483_647
"""The largest NUMBER, as large as a whole number of the API."""

_STARS = "*" * 12
_NUMBER = re.compile(r"[0-9]{1,10}|[0-9]{1,3}(?:[,_][0-9]{3}){1,3}")
_BEARER = re.compile(r"^bearer(?:\s+|$)", re.IGNORECASE)
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

    What is given must be shown. With `stored` it is an update: a field left out keeps its value, None clears an
    optional one, and where a field that decides the host changes, every secret must be given again. Conditions look at
    fields that stand before theirs.

    Raises:
        InvalidInput: with the path of the field that is wrong.
    """
    fields = {field.name: field for field in form}
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInput(f"There is no field {name!r}; the fields are: {known}.", path=("values", name))
    values: dict[str, Value] = {}
    hidden = set(fields)
    for field in visible_fields(fields.values(), values, model_type):
        hidden.discard(field.name)
        value = _value(field, given, stored, model_type, normalise_url)
        if value:
            _check_option(field, value, values, model_type)
            values[field.name] = value
        elif field.required:
            raise _wrong(field, "is required")
    for name, field in fields.items():
        if name in hidden and (given.get(name) or "").strip():
            raise _wrong(field, "does not belong to the other values: leave it out")
    if stored:
        _check_host(fields.values(), stored, values, given)
    return values


def visible_fields(
    form: Iterable[FormField], values: Mapping[str, Value], model_type: ModelType | None
) -> Iterator[FormField]:
    """Yield the fields that are shown, in their order; `values` may be filled while they are taken."""
    return (field for field in form if visible(field.show_on, values, model_type))


def visible(conditions: tuple[FormCondition, ...], values: Mapping[str, Value], model_type: ModelType | None) -> bool:
    """Tell whether a field or option with these conditions is shown: any of them holds, or there are none."""
    return not conditions or any(_holds(condition, values, model_type) for condition in conditions)


def mask(secret: str) -> str:
    """Return what is shown of a secret: its ends around stars, stars alone for a short one."""
    return f"{secret[:6]}{_STARS}{secret[-2:]}" if len(secret) >= 24 else _STARS


def shown(value: Value) -> str:
    """Return what is shown of a stored value."""
    return mask(value.reveal()) if isinstance(value, Secret) else value


def _value(
    field: FormField,
    given: Mapping[str, str | None],
    stored: Values | None,
    model_type: ModelType | None,
    normalise_url: Callable[[str], str],
) -> Value:
    """Return what a field holds: what is given, else what is stored, else its default; nothing is empty text."""
    if field.name in given:
        text = given[field.name]
        if value := _parse(field, text, normalise_url) if text is not None else "":
            return value
        has_default = field.required
    elif stored is not None:
        if value := stored.get(field.name, ""):
            return value
        has_default = field.required or not visible(field.show_on, stored, model_type)
    else:
        has_default = True
    return _parse(field, field.default, normalise_url) if has_default and field.default is not None else ""


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
    if not all(character.isprintable() or character in _allowed_controls(field) for character in text):
        raise _wrong(field, "has a character that cannot be shown")
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


def _allowed_controls(field: FormField) -> str:
    """Return the control characters that a field may hold: a secret can be of several lines, as a private key is."""
    return "\r\n\t" if field.type is FormFieldType.SECRET else ""


def _parse_url(field: FormField, text: str, normalise_url: Callable[[str], str]) -> str:
    try:
        return normalise_url(text)
    except InvalidInput as error:
        error.path = ("values", field.name)
        raise


def _parse_number(field: FormField, text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise _wrong(field, "is a whole number above 0")
    number = int(re.sub("[,_]", "", text))
    if not 0 < number <= MAX_NUMBER:
        raise _wrong(field, f"is a whole number from 1 to {MAX_NUMBER}")
    return str(number)


def _clean_secret(text: str) -> str:
    """Take off what is pasted along with a key: quotes and the word Bearer, in any order."""
    while True:
        cleaned = _BEARER.sub("", text)
        if len(cleaned) > 1 and cleaned[0] == cleaned[-1] and cleaned[0] in "\"'`":
            cleaned = cleaned[1:-1]
        cleaned = cleaned.strip()
        if cleaned == text:
            return text
        text = cleaned


def _check_option(field: FormField, value: Value, values: Mapping[str, Value], model_type: ModelType | None) -> None:
    if field.type not in {FormFieldType.SELECT, FormFieldType.RADIO}:
        return
    offered = [option.value for option in field.options if _offered(option, values, model_type)]
    if value not in offered:
        raise _wrong(field, f"is one of: {', '.join(offered)}")


def _offered(option: FormOption, values: Mapping[str, Value], model_type: ModelType | None) -> bool:
    return visible(option.show_on, values, model_type)


def _check_host(fields: Iterable[FormField], stored: Values, values: Values, given: Mapping[str, str | None]) -> None:
    """A stored key never travels to a new host."""
    moved = [field for field in fields if field.decides_host and stored.get(field.name) != values.get(field.name)]
    if not moved:
        return
    for name, value in values.items():
        if isinstance(value, Secret) and name in stored and given.get(name) is None:
            raise InvalidInput(
                f"{moved[0].label!r} decides where the secret {name!r} is sent: enter the secret again with it.",
                path=("values", name),
            )


def _wrong(field: FormField, rule: str) -> InvalidInput:
    return InvalidInput(f"The field {field.label!r} {rule}.", path=("values", field.name))
