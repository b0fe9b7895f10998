"""Credential forms: what a client has to ask a person for."""

from typing import cast

from core import provider
from core.provider import FormFieldType
from graph.types import attribute, described, object_type

described(
    FormFieldType,
    "How a field is entered.",
    TEXT="A line of text.",
    SECRET="Text that is never shown again in clear.",
    URL="An address; private ones may be refused.",
    NUMBER="A whole number above 0.",
    SELECT="One of the options, from a list.",
    RADIO="One of the options, side by side.",
    SWITCH="`true` or `false`.",
)


@object_type
class FormCondition:
    """Shows a field or an option while another field has a value."""

    field: str = attribute("The other field; `model_type` is the type of the model that the credential is for.")
    value: str = attribute("The value that it has to have.")


@object_type
class FormOption:
    """A value to choose."""

    value: str = attribute("What is entered.")
    label: str = attribute("What is shown.")
    show_on: list[FormCondition] = attribute("When the option is there: any of these holds, or there are none.")


@object_type
class FormField:
    """A field of a credential form."""

    name: str = attribute("What the value is called in `values`.")
    label: str = attribute("What is shown.")
    type: FormFieldType = attribute("How it is entered.")
    required: bool = attribute("Whether a value must be there, of the caller or by `default`.")
    default: str | None = attribute("What a field that is left out gets; null: nothing.")
    placeholder: str | None = attribute("An example; null: none.")
    help: str | None = attribute("An explanation; null: none.")
    max_length: int | None = attribute("The most characters; null: any number of them.")
    decides_host: bool = attribute("Whether it decides where secrets are sent: changed, they are entered again.")
    options: list[FormOption] = attribute("The values to choose from; empty for a field that is not of options.")
    show_on: list[FormCondition] = attribute("When the field is there: any of these holds, or there are none.")

    @classmethod
    def all_of(cls, fields: tuple[provider.FormField, ...]) -> "list[FormField]":
        """Return a form as the type of the schema that reads it."""
        return cast("list[FormField]", list(fields))
