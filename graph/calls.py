"""What calls of every model type besides language models take and answer."""

from uuid import UUID

import strawberry

from core.asking import Asked
from core.errors import InvalidInput
from graph import ids, links
from graph.completion_input import MAX_END_USER, optional_object
from graph.context import Info
from graph.invocations import tags_of
from graph.links import InvocationLink
from graph.mutations import ERRORS
from graph.problems import UserError
from graph.scalars import JSON
from graph.types import attribute, input_type, object_type, resolved
from graph.values import ModelReferenceInput, TagInput


@input_type
class CallInput:
    """What every call says besides what it is about."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    model: ModelReferenceInput | None = attribute(
        "The model; left out, the workspace's default of the type.", default=None
    )
    credential_id: strawberry.ID | None = attribute(
        "Pins one credential. Needs CREDENTIAL_READ, or a token that lists it in `credentialIds`.", default=None
    )
    provider_options: JSON | None = attribute(
        "An object that is passed through to the provider, for what is not modelled here.", default=None
    )
    end_user: str | None = attribute(
        "Who the call is made for: an id of yours of at most 256 characters, sent to providers that take one.",
        default=None,
    )
    tags: list[TagInput] | None = attribute("Labels for the record; at most 64.", default=None)
    idempotency_key: str | None = attribute(
        "The same key with the same input within 24 hours gives the same call, made and charged once; its answer for 10 "
        "minutes after its end, later CONFLICT.",
        default=None,
    )

    def asked(self) -> Asked:
        """Return what core takes.

        Raises:
            InvalidInput: a value breaks its rules; its path says which.
            NotFound: an id is none.
        """
        if self.end_user is not None and not 1 <= len(self.end_user) <= MAX_END_USER:
            raise InvalidInput(f"`endUser` has 1 to {MAX_END_USER} characters.", path=("endUser",))
        return Asked(
            workspace_id=ids.optional_uuid(self.workspace_id, "Workspace", ("workspaceId",)),
            model=self.model.reference() if self.model is not None else None,
            credential_id=ids.given_credential(self.credential_id, ("credentialId",))
            if self.credential_id is not None
            else None,
            tags=tags_of(self.tags or (), ("tags",)),
            idempotency_key=self.idempotency_key,
        )

    def options(self) -> dict[str, object]:
        """Return the provider options.

        Raises:
            InvalidInput: they are no object.
        """
        return optional_object(self.provider_options, ("providerOptions",))


@object_type
class CallPayload:
    """What came of a call."""

    errors: list[UserError] = attribute(ERRORS)
    invocation_id: strawberry.Private[UUID | None] = None

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The record of the call; null where it was refused before it was admitted."""
        return await links.invocation(info.context, self.invocation_id) if self.invocation_id is not None else None


def check_text(text: str, name: str, path: tuple[str, ...], most: int) -> None:
    """Let a text pass that says something and is not too long.

    Raises:
        InvalidInput: it is empty or too long.
    """
    if not 1 <= len(text) <= most or text.isspace():
        raise InvalidInput(f"{name} says something, in at most {most} characters.", path=path)
