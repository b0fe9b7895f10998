"""The rules of credential forms: what is shown, what may be entered, how it is stored and masked."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.forms import MAX_LENGTH, MAX_NUMBER, check_form, mask, shown, visible_fields
from core.model_types import ModelType
from core.provider import FormCondition, FormField, FormFieldType, FormOption, Manifest, Value, Values
from core.secret import Secret
from tests.catalogs import CATALOG

KEY = FormField(name="api_key", label="API key", type=FormFieldType.SECRET, required=True)
URL = FormField(name="base_url", label="Base URL", type=FormFieldType.URL, decides_host=True)
NOTE = FormField(name="note", label="Note", type=FormFieldType.TEXT, max_length=5)
SWITCH = FormField(name="fast", label="Fast", type=FormFieldType.SWITCH, default="true")
SIZE = FormField(name="size", label="Size", type=FormFieldType.NUMBER)
STYLE = FormField(
    name="style",
    label="Style",
    type=FormFieldType.SELECT,
    required=True,
    default="v1",
    options=(
        FormOption(value="v1", label="v1"),
        FormOption(value="dated", label="Dated"),
        FormOption(
            value="embed", label="Embeddings", show_on=(FormCondition(field="model_type", value="text_embedding"),)
        ),
    ),
)
VERSION = FormField(
    name="version",
    label="Version",
    type=FormFieldType.TEXT,
    required=True,
    show_on=(FormCondition(field="style", value="dated"),),
)
FORM = (KEY, URL, NOTE, SWITCH, SIZE, STYLE, VERSION)


def check(
    values: dict[str, str | None],
    form: tuple[FormField, ...] = FORM,
    model_type: ModelType | None = None,
    stored: Values | None = None,
) -> Values:
    return check_form(form, values, model_type, normalise_url=lambda text: text.lower().rstrip("/ "), stored=stored)


def outcome(values: dict[str, str | None]) -> tuple[Values, InvalidInput | None]:
    try:
        return check(values), None
    except InvalidInput as refusal:
        return {}, refusal


def test_what_is_entered_is_stored_in_its_canonical_form_with_defaults() -> None:
    assert check(
        {"api_key": " sk-1 \n", "base_url": "HTTPS://Host/v1/", "note": " a ", "fast": "False", "size": "4,096"}
    ) == {
        "api_key": Secret("sk-1"),
        "base_url": "https://host/v1",
        "note": "a",
        "fast": "false",
        "size": "4096",
        "style": "v1",
    }


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvalidInput, match="'apikey'; the fields are: api_key, base_url") as raised:
        check({"apikey": "sk-1"})

    assert raised.value.path == ("values", "apikey")


@pytest.mark.parametrize(
    "values",
    [{}, {"api_key": None}, {"api_key": ""}, {"api_key": " \n "}, {"api_key": '""'}, {"api_key": "Bearer "}],
)
def test_an_empty_value_is_not_a_value(values: dict[str, str | None]) -> None:
    with pytest.raises(InvalidInput, match="'API key' is required") as raised:
        check(values)

    assert raised.value.path == ("values", "api_key")


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("note", "123456", "at most 5 characters"),
        ("note", "a\x00b", "cannot be shown"),
        ("note", "a\nb", "cannot be shown"),
        ("api_key", "sk-\ud800", "cannot be shown"),
        ("api_key", "k" * (MAX_LENGTH + 1), "at most 8192 characters"),
        ("fast", "yes", "true or false"),
        ("size", "0", "whole number"),
        ("size", "-1", "whole number"),
        ("size", "1.5", "whole number"),
        ("size", "1,5", "whole number"),
        ("size", "²", "whole number"),
        ("size", "9" * 5000, "whole number"),
        ("size", str(MAX_NUMBER + 1), "whole number"),
        ("style", "v2", "is one of: v1, dated$|is one of: v1, dated\\."),
        ("style", "embed", "is one of: v1, dated"),
    ],
)
def test_a_value_out_of_its_rules_is_refused_by_name(name: str, text: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as raised:
        check({"api_key": "sk-1", name: text})

    assert raised.value.path == ("values", name)
    assert text not in raised.value.message or name == "size"


def test_a_wrong_url_is_named_by_its_field() -> None:
    def refuse(text: str) -> str:
        raise InvalidInput("No address.")

    with pytest.raises(InvalidInput) as raised:
        check_form(FORM, {"api_key": "sk-1", "base_url": "x"}, None, normalise_url=refuse)

    assert raised.value.path == ("values", "base_url")


@pytest.mark.parametrize(
    "text", ["sk-1", " sk-1\n", "Bearer sk-1", "bearer  sk-1", '"sk-1"', "'Bearer sk-1'", 'Bearer "sk-1"']
)
def test_what_is_pasted_along_with_a_key_is_taken_off(text: str) -> None:
    assert check({"api_key": text})["api_key"] == Secret("sk-1")


def test_a_secret_of_several_lines_is_kept() -> None:
    assert check({"api_key": "X-One: 1\nX-Two: 2\n"})["api_key"] == Secret("X-One: 1\nX-Two: 2")


def test_only_shown_fields_are_required_and_stored() -> None:
    hidden = check({"api_key": "sk-1", "version": None})
    empty = check({"api_key": "sk-1", "version": " "})
    with pytest.raises(InvalidInput, match="'Version' is required"):
        check({"api_key": "sk-1", "style": "dated"})
    both = check({"api_key": "sk-1", "style": "dated", "version": "2024-10-21"})

    assert "version" not in hidden
    assert "version" not in empty
    assert both["version"] == "2024-10-21"


def test_a_value_for_a_field_that_is_not_shown_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'Version' does not belong to the other values") as raised:
        check({"api_key": "sk-1", "version": "2024-10-21"})

    assert raised.value.path == ("values", "version")


def test_a_field_that_hangs_on_a_hidden_one_is_hidden() -> None:
    deep = FormField(
        name="deep", label="Deep", type=FormFieldType.TEXT, show_on=(FormCondition(field="version", value="x"),)
    )

    with pytest.raises(InvalidInput, match="'Deep' does not belong"):
        check({"api_key": "sk-1", "deep": "y"}, (*FORM, deep))
    stored = check({"api_key": "sk-1", "style": "dated", "version": "x", "deep": "y"}, (*FORM, deep))

    assert stored["deep"] == "y"


def test_any_condition_shows() -> None:
    either = FormField(
        name="either",
        label="Either",
        type=FormFieldType.TEXT,
        show_on=(FormCondition(field="fast", value="false"), FormCondition(field="model_type", value="llm")),
    )
    form = (SWITCH, either)

    assert "either" not in check({}, form)
    assert "either" in check({"either": "x", "fast": "false"}, form)
    assert "either" in check({"either": "x"}, form, ModelType.LLM)
    assert [field.name for field in visible_fields(form, {}, ModelType.TTS)] == ["fast"]


def test_an_option_is_offered_to_the_model_type_that_it_is_for() -> None:
    stored = check({"api_key": "sk-1", "style": "embed"}, model_type=ModelType.TEXT_EMBEDDING)

    assert stored["style"] == "embed"


STORED: Values = {
    "api_key": Secret("sk-1"),
    "base_url": "https://host/v1",
    "note": "a",
    "fast": "false",
    "style": "dated",
    "version": "1",
}


def test_an_update_keeps_what_is_left_out_and_clears_what_is_null() -> None:
    assert check({}, stored=STORED) == STORED
    assert check({"note": None, "fast": None}, stored=STORED) == {
        name: value for name, value in STORED.items() if name not in {"note", "fast"}
    }


def test_what_was_cleared_stays_cleared() -> None:
    cleared = check({"fast": None}, stored=STORED)

    assert check({"note": "b"}, stored=cleared) == {**cleared, "note": "b"}


def test_an_update_drops_what_it_hides_and_cannot_clear_what_is_required() -> None:
    assert "version" not in check({"style": "v1"}, stored=STORED)
    with pytest.raises(InvalidInput, match="'API key' is required"):
        check({"api_key": None}, stored=STORED)
    assert check({"style": None}, stored=STORED)["style"] == "v1"


@pytest.mark.parametrize("moved", ["https://other/v1", None, ""])
def test_a_stored_key_never_travels_to_a_new_host(moved: str | None) -> None:
    with pytest.raises(InvalidInput, match="'Base URL' decides where the secret 'api_key' is sent") as raised:
        check({"base_url": moved}, stored=STORED)

    assert raised.value.path == ("values", "api_key")
    assert check({"base_url": moved, "api_key": "sk-2"}, stored=STORED)["api_key"] == Secret("sk-2")


def test_a_url_that_says_the_same_asks_for_no_secret() -> None:
    assert check({"base_url": "HTTPS://HOST/v1/"}, stored=STORED) == STORED


@given(st.dictionaries(st.sampled_from([field.name for field in FORM]), st.none() | st.text(max_size=12)))
def test_any_values_are_either_stored_or_refused_by_name(values: dict[str, str | None]) -> None:
    stored, refusal = outcome({"api_key": "sk-1", **values})

    if refusal is not None:
        assert refusal.path[0] == "values"
        assert refusal.path[1] in {field.name for field in FORM}
        return
    assert all(stored.values())
    assert ("version" in stored) is (stored["style"] == "dated")
    assert check({field.name: _text(stored.get(field.name)) for field in FORM}) == stored
    assert check({}, stored=stored) == stored


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from([field.name for field in FORM]), st.none() | st.text(max_size=12)),
    st.text(min_size=4, max_size=20, alphabet="abcdefgh"),
)
def test_no_update_takes_a_stored_key_to_another_host(values: dict[str, str | None], host: str) -> None:
    stored: Values = {"api_key": Secret("sk-stored"), "base_url": "https://host", "style": "v1"}
    try:
        updated = check({**values, "base_url": f"https://{host}.test"}, stored=stored)
    except InvalidInput:
        return

    assert updated["api_key"] != Secret("sk-stored") or (values.get("api_key") or "").strip("\"'` \n\t\r") != ""


@given(st.text(max_size=60))
def test_a_mask_shows_at_most_eight_characters(secret: str) -> None:
    masked = mask(secret)

    if len(secret) < 24:
        assert masked == "*" * 12
    else:
        assert masked == secret[:6] + "*" * 12 + secret[-2:]


def test_what_is_shown_of_a_secret_is_its_mask_and_of_others_the_value() -> None:
    assert shown(Secret("sk-0123456789abcdefghijklmnop")) == "sk-012************op"
    assert shown("https://host/v1") == "https://host/v1"


@pytest.mark.parametrize("manifest", CATALOG.manifests(), ids=lambda manifest: manifest.name)
def test_no_form_that_ships_repeats_a_secret_in_an_error(manifest: Manifest) -> None:
    for name in ("credential_form", "model_credential_form"):
        for field in getattr(manifest, name):
            text = "sk-secret-" + "x" * 9000
            with pytest.raises(InvalidInput) as raised:
                check({field.name: text}, (replace(field, show_on=()),))
            assert "sk-secret" not in raised.value.message


def _text(value: Value | None) -> str | None:
    return value.reveal() if isinstance(value, Secret) else value
