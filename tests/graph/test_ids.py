"""Global ids."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotFound
from core.model_types import ModelKey, ModelType
from graph import ids

WORKSPACE = UUID("01900000-0000-7000-8000-000000000001")
parts = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40), min_size=1, max_size=4)


@given(name=st.from_regex(r"[A-Z][a-zA-Z]{0,20}", fullmatch=True), key=parts)
def test_an_id_gives_back_what_it_was_made_of(name: str, key: list[str]) -> None:
    made = ids.encode(name, *key)

    assert ids.decode(made) == (name, tuple(key))
    assert made.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=200))
def test_any_text_is_an_id_or_nothing(text: str) -> None:
    found = ids.decode(text)

    assert found is None or ids.encode(found[0], *found[1]) == text


@given(st.text(st.sampled_from("ABab01-_=+/ "), max_size=40))
def test_an_object_has_one_id(text: str) -> None:
    found = ids.decode(text)

    assert found is None or ids.encode(found[0], *found[1]) == text


@pytest.mark.parametrize("text", ["", "x", "V29ya3NwYWNl", "=", "a" * 5000, "ÿÿÿÿ", "Workspace:1"])
def test_garbage_is_no_id(text: str) -> None:
    assert ids.decode(text) is None
    with pytest.raises(NotFound) as refused:
        ids.given_uuid(text, "Workspace", ("workspaceId",))
    assert refused.value.path == ("workspaceId",)


def test_an_id_of_another_type_is_not_found() -> None:
    with pytest.raises(NotFound):
        ids.given_uuid(ids.encode("Account", WORKSPACE), "Workspace")


@given(name=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=200))
def test_a_models_id_holds_its_key(name: str) -> None:
    key = ModelKey(provider="openai", name=name, type=ModelType.RERANK)

    assert ids.given_model(ids.model_id(WORKSPACE, key)) == (WORKSPACE, key)


@pytest.mark.parametrize("parts", [(), ("1",), ("x", "openai", "LLM", "a"), (WORKSPACE.hex, "openai", "NOTHING", "a")])
def test_parts_that_name_no_model_give_none(parts: tuple[str, ...]) -> None:
    assert ids.model_of(parts) is None


def test_a_credentials_id_holds_its_workspace() -> None:
    credential = UUID("01900000-0000-7000-8000-000000000002")

    made = ids.credential_id(WORKSPACE, credential)

    assert ids.given_credential(made) == credential
    with pytest.raises(NotFound):
        ids.given_credential(ids.encode("Credential", credential))
