"""What the matrix of permissions is made of: everybody who asks, what each may do, and a sample of everything.

`test_matrix.py` walks the schema and asks these tables for every type, field and operation that it meets. Whoever adds
one to the schema adds a line here; the failing test says which.
"""

import base64
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from core.entities import Workspace
from core.errors import UpstreamQuotaExhausted
from core.ids import uuid7
from core.offers import offers_of
from core.operator_files import OperatorFile
from core.ports import pool_state
from graph import ids
from tests.graph.world import World

# ---- who may what: the table of the domain, by hand, so that it checks the one of core

OWNER, ADMINS = {"owner"}, {"owner", "admin"}
EDITORS = ADMINS | {"editor"}
EVERYBODY = EDITORS | {"member", "service"}
OPERATOR = {"operator"}

HOLDERS: Mapping[str, set[str]] = {
    "WORKSPACE_DELETE": OWNER,
    "OWNER_MANAGE": OWNER,
    "WORKSPACE_MANAGE": ADMINS,
    "MEMBER_MANAGE": ADMINS,
    "TOKEN_MANAGE": ADMINS,
    "CREDENTIAL_READ": ADMINS,
    "CREDENTIAL_MANAGE": ADMINS,
    "PROVIDER_MANAGE": ADMINS,
    "MODEL_MANAGE": ADMINS,
    "POOL_READ": ADMINS,
    "POOL_MANAGE": ADMINS,
    "DEFAULT_MANAGE": ADMINS,
    "ORDER_READ": ADMINS | OPERATOR,
    "ORDER_MANAGE": ADMINS,
    "AUDIT_READ": ADMINS,
    "QUOTA_READ": EDITORS | OPERATOR,
    "USAGE_READ": EDITORS,
    "MEMBER_READ": EDITORS,
    "WORKSPACE_READ": EVERYBODY | OPERATOR,
    "MODEL_READ": EVERYBODY,
    "MODEL_INVOKE": EVERYBODY,
    "QUOTA_MANAGE": OPERATOR,
    "ORDER_REFUND": OPERATOR,
    "SERVER_READ": OPERATOR,
}
"""Who of the world's principals holds a permission in `home`. The stranger and the anonymous hold none."""

# ---- what it takes to be given an object, and a field of it

TYPES: Mapping[str, str] = {
    "Account": "MEMBER_READ",
    "ApiToken": "TOKEN_MANAGE",
    "AuditEntry": "AUDIT_READ",
    "Credential": "CREDENTIAL_READ",
    "Invitation": "MEMBER_MANAGE",
    "Invocation": "USAGE_READ",
    "Member": "MEMBER_READ",
    "Model": "MODEL_READ",
    "Order": "ORDER_READ",
    "Pool": "POOL_READ",
    "PoolMember": "POOL_READ",
    "Product": "WORKSPACE_READ",
    "Provider": "MODEL_READ",
    "Quota": "QUOTA_READ",
    "QuotaEntry": "QUOTA_READ",
    "Workspace": "WORKSPACE_READ",
}
"""What it takes to be given the owner's sample of each type that has an id."""

UNSEEN = {("Invocation", "operator")}
"""Where somebody of the workspace does not learn that an object exists, instead of being refused it."""

FIELDS: Mapping[str, str] = {
    "Account.memberships": "MEMBER_READ",
    "ApiToken.account": "MEMBER_READ",
    "ApiToken.allowedModels": "TOKEN_MANAGE",
    "ApiToken.budget": "TOKEN_MANAGE",
    "ApiToken.createdBy": "MEMBER_READ",
    "ApiToken.workspace": "WORKSPACE_READ",
    "AuditEntry.actor": "MEMBER_READ",
    "AuditEntry.token": "TOKEN_MANAGE",
    "Credential.model": "CREDENTIAL_READ",
    "Credential.poolMembers": "POOL_READ",
    "Credential.problem": "CREDENTIAL_READ",
    "Credential.provider": "MODEL_READ",
    "Credential.values": "CREDENTIAL_READ",
    "DefaultModel.model": "MODEL_READ",
    "DefaultModel.problem": "MODEL_READ",
    "Invitation.invitedBy": "MEMBER_READ",
    "Invitation.workspace": "WORKSPACE_READ",
    "Invocation.account": "MEMBER_READ",
    "Invocation.attempts": "USAGE_READ",
    "Invocation.cost": "USAGE_READ",
    "Invocation.credential": "CREDENTIAL_READ",
    "Invocation.error": "USAGE_READ",
    "Invocation.model": "USAGE_READ",
    "Invocation.pricing": "USAGE_READ",
    "Invocation.quotaEntries": "QUOTA_READ",
    "Invocation.token": "TOKEN_MANAGE",
    "Invocation.usage": "USAGE_READ",
    "Invocation.workspace": "WORKSPACE_READ",
    "Member.account": "MEMBER_READ",
    "Member.workspace": "WORKSPACE_READ",
    "Model.activeCredential": "CREDENTIAL_READ",
    "Model.credentials": "CREDENTIAL_READ",
    "Model.currentQuota": "QUOTA_READ",
    "Model.parameterRules": "MODEL_READ",
    "Model.pool": "POOL_READ",
    "Model.pricing": "MODEL_READ",
    "Model.problem": "MODEL_READ",
    "Model.provider": "MODEL_READ",
    "Model.voices": "MODEL_READ",
    "Model.workspace": "WORKSPACE_READ",
    "Order.account": "MEMBER_READ",
    "Order.problem": "ORDER_READ",
    "Order.product": "WORKSPACE_READ",
    "Order.workspace": "WORKSPACE_READ",
    "Pool.members": "POOL_READ",
    "Pool.model": "MODEL_READ",
    "Pool.workspace": "WORKSPACE_READ",
    "PoolMember.cooldown": "POOL_READ",
    "PoolMember.credential": "CREDENTIAL_READ",
    "PoolMember.pool": "POOL_READ",
    "PoolMember.problem": "POOL_READ",
    "Provider.activeCredential": "CREDENTIAL_READ",
    "Provider.credentialForm": "MODEL_READ",
    "Provider.credentials": "CREDENTIAL_READ",
    "Provider.modelCredentialForm": "MODEL_READ",
    "Provider.models": "MODEL_READ",
    "Provider.removedModels": "CREDENTIAL_READ",
    "Provider.problem": "MODEL_READ",
    "Provider.workspace": "WORKSPACE_READ",
    "Quota.entries": "QUOTA_READ",
    "Quota.provider": "MODEL_READ",
    "Quota.restrictedTo": "QUOTA_READ",
    "Quota.workspace": "WORKSPACE_READ",
    "QuotaEntry.actor": "QUOTA_READ",
    "QuotaEntry.invocation": "QUOTA_READ",
    "QuotaEntry.order": "ORDER_READ",
    "RemovedModel.credentials": "CREDENTIAL_READ",
    "Route.candidates": "MODEL_INVOKE",
    "Route.model": "MODEL_INVOKE",
    "Route.problem": "MODEL_INVOKE",
    "Route.quota": "QUOTA_READ",
    "RouteCandidate.credential": "CREDENTIAL_READ",
    "RouteCandidate.poolMember": "POOL_READ",
    "Server.database": "SERVER_READ",
    "Server.redis": "SERVER_READ",
    "Server.workers": "SERVER_READ",
    "UsageBucket.costs": "USAGE_READ",
    "UsageBucket.key": "USAGE_READ",
    "UsageBucket.usage": "USAGE_READ",
    "Workspace.apiTokens": "TOKEN_MANAGE",
    "Workspace.auditLog": "AUDIT_READ",
    "Workspace.credentials": "CREDENTIAL_READ",
    "Workspace.defaultModels": "MODEL_READ",
    "Workspace.invocations": "WORKSPACE_READ",
    "Workspace.invitations": "MEMBER_MANAGE",
    "Workspace.keyRotation": "CREDENTIAL_READ",
    "Workspace.members": "MEMBER_READ",
    "Workspace.model": "MODEL_READ",
    "Workspace.models": "MODEL_READ",
    "Workspace.orders": "ORDER_READ",
    "Workspace.pools": "POOL_READ",
    "Workspace.products": "WORKSPACE_READ",
    "Workspace.provider": "MODEL_READ",
    "Workspace.providers": "MODEL_READ",
    "Workspace.quotas": "QUOTA_READ",
    "Workspace.route": "MODEL_INVOKE",
    "Workspace.usage": "USAGE_READ",
}
"""What it takes to read each field that gives objects, besides what it takes to be given the object that it is on."""

ARGUMENTS: Mapping[str, str] = {
    "Provider.modelCredentialForm": "(type: LLM)",
    "Workspace.model": '(key: {provider: "echo", name: "echo", type: LLM})',
    "Workspace.provider": '(name: "echo")',
    "Workspace.route": '(model: {provider: "echo", name: "echo"})',
    "Workspace.usage": '(from: "2020-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z")',
}
"""The arguments of fields that need some."""

WAYS: Mapping[str, tuple[str, str]] = {
    "DefaultModel": ("MODEL_READ", "node(id: $workspace) { ... on Workspace { defaultModels { %s } } }"),
    "RemovedModel": (
        "CREDENTIAL_READ",
        'node(id: $workspace) { ... on Workspace { provider(name: "openai_compatible") { removedModels { %s } } } }',
    ),
    "Route": (
        "MODEL_INVOKE",
        'node(id: $workspace) { ... on Workspace { route(model: {provider: "echo", name: "echo"}) { %s } } }',
    ),
    "RouteCandidate": (
        "MODEL_INVOKE",
        'node(id: $workspace) { ... on Workspace { route(model: {provider: "echo", name: "echo"}) {'
        " candidates { %s } } } }",
    ),
    "Server": ("", "server { %s }"),
    "UsageBucket": (
        "USAGE_READ",
        'node(id: $workspace) { ... on Workspace { usage(from: "2020-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z")'
        " { %s } } }",
    ),
}
"""How an object without an id is reached, and what that takes ('': a token)."""

OF_NOBODY_ELSE = {"Viewer"}
"""Types that only ever tell of the viewer's own."""

# ---- a sample of everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace with a sample of every type that has an id; `who` owns it."""

    workspace: Workspace
    who: str
    samples: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, type_name: str) -> str:
        return self.samples[type_name]


PRODUCTS = """
[products.pack]
name = "Pack"
quota_amount = 100
unit = "CREDITS"
price = 1500
currency = "EUR"
"""
"""What the operator sells."""

ECHO = {"provider": "echo", "name": "echo"}
HELLO = [{"role": "USER", "text": "hello there"}]
WAV = base64.b64encode(b"RIFF\0\0\0\0WAVEfmt ").decode()


async def _invitation(world: World, place: Place) -> str:
    query = "mutation ($input: AddMemberInput!) { addMember(input: $input) { errors { message } } }"
    await world.change(place.who, query, workspaceId=place["Workspace"], email="waiting@test", role="MEMBER")
    listed = "query ($id: ID!) { workspace(id: $id) { invitations { nodes { id } } } }"
    data = await world.data(place.who, listed, id=place["Workspace"])
    return str(data["workspace"]["invitations"]["nodes"][0]["id"])


async def _credential(world: World, place: Place) -> str:
    query = "mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { credential { id } errors { message } } }"
    values = [{"field": "prefix", "value": "so"}]
    made = await world.change(place.who, query, workspaceId=place["Workspace"], provider="echo", values=values)
    return str(made["credential"]["id"])


async def _member(world: World, place: Place) -> str:
    return await _place_of(world, place, place.who)


async def _other_member(world: World, place: Place) -> str:
    return await _place_of(world, place, "member" if place.who == "owner" else place.who)


async def _place_of(world: World, place: Place, name: str) -> str:
    async with world.app.storage.read() as tx:
        found = await tx.members.find(place.workspace.id, world.accounts[name])
    assert found is not None
    return ids.encode("Member", found.id)


async def _custom_model(world: World, place: Place, name: str = "mine") -> str:
    query = "mutation ($input: AddModelInput!) { addModel(input: $input) { model { id } errors { message } } }"
    made = await world.change(place.who, query, workspaceId=place["Workspace"], **_new_model(name))
    return str(made["model"]["id"])


async def _removed_model(world: World, place: Place) -> str:
    query = "mutation ($input: RemoveModelInput!) { removeModel(input: $input) { deletedId errors { message } } }"
    return str((await world.change(place.who, query, id=await _custom_model(world, place, "gone")))["deletedId"])


def _new_model(name: str) -> dict[str, Any]:
    values = [{"field": "base_url", "value": "http://127.0.0.1:9/v1"}]
    return {
        "model": {"provider": "openai_compatible", "name": name, "type": "LLM"},
        "credential": {"new": {"values": values}},
        "verify": False,
    }


async def _account(world: World, place: Place) -> str:
    return ids.encode("Account", world.accounts[place.who])


async def _token(world: World, place: Place) -> str:
    query = "mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) { apiToken { id } errors { message } } }"
    given = {"workspaceId": place["Workspace"], "service": True, "name": "sample", "role": "MEMBER"}
    return str((await world.change(place.who, query, **given))["apiToken"]["id"])


async def _invocation(world: World, place: Place) -> str:
    query = "mutation ($input: CompletionInput!) { complete(input: $input) { invocation { id } errors { message } } }"
    made = await world.change(place.who, query, workspaceId=place["Workspace"], model=ECHO, messages=HELLO)
    return str(made["invocation"]["id"])


async def _quota(world: World, place: Place) -> str:
    query = "mutation ($input: GrantQuotaInput!) { grantQuota(input: $input) { quota { id } errors { message } } }"
    given = {"workspaceId": place["Workspace"], "type": "TRIAL", "unit": "TIMES", "limit": 10, "idempotencyKey": "one"}
    return str((await world.change("operator", query, **given))["quota"]["id"])


async def _quota_entry(world: World, place: Place) -> str:
    query = "query ($id: ID!) { node(id: $id) { ... on Quota { entries { nodes { id } } } } }"
    data = await world.data(place.who, query, id=place["Quota"])
    return str(data["node"]["entries"]["nodes"][0]["id"])


async def _product(world: World, place: Place) -> str:
    async with world.app.storage.transaction() as tx:
        (offer,) = offers_of(
            OperatorFile(path=Path("products.toml"), tables=tomllib.loads(PRODUCTS)), world.app.catalog, {}
        )
        known = {product.key: product for product in await tx.products.all()}
        product = offer.applied(known.get(offer.key))
        await tx.products.keep(product)
    return ids.encode("Product", place.workspace.id, product.id)


ORDER = "mutation ($input: CreateOrderInput!) { createOrder(input: $input) { order { id } errors { message } } }"


async def _order(world: World, place: Place) -> str:
    given = {"workspaceId": place["Workspace"], "productId": place["Product"]}
    return str((await world.change(place.who, ORDER, **given))["order"]["id"])


async def _paid_order(world: World, place: Place) -> str:
    query = (
        "mutation ($input: MarkOrderPaidInput!) { markOrderPaid(input: $input) { order { id } errors { message } } }"
    )
    transaction = f"bank-{place.workspace.slug}"
    given = {"id": await _order(world, place), "transactionId": transaction}
    return str((await world.change("operator", query, **given))["order"]["id"])


async def _audit_entry(world: World, place: Place) -> str:
    query = "query ($id: ID!) { workspace(id: $id) { auditLog(last: 1) { nodes { id } } } }"
    data = await world.data(place.who, query, id=place["Workspace"])
    return str(data["workspace"]["auditLog"]["nodes"][0]["id"])


async def _pool(world: World, place: Place) -> str:
    query = "mutation ($input: SavePoolInput!) { savePool(input: $input) { pool { id } errors { message } } }"
    given = {"workspaceId": place["Workspace"], **_new_pool(place)}
    return str((await world.change(place.who, query, **given))["pool"]["id"])


async def _pool_member(world: World, place: Place) -> str:
    query = "query ($id: ID!) { node(id: $id) { ... on Pool { members { id } } } }"
    return str((await world.data(place.who, query, id=place["Pool"]))["node"]["members"][0]["id"])


async def let_rest(world: World, place: Place) -> None:
    """Let the sample of a pool's member rest, which is what `endCooldown` ends."""
    seat = pool_state.Place(
        member_id=ids.given_pair(place["PoolMember"], "PoolMember")[1],
        credential_id=ids.given_credential(place["Credential"]),
        number=0,
        weight=1,
    )
    pool_id = ids.given_pair(place["Pool"], "Pool")[1]
    lease = pool_state.Lease(workspace_id=place.workspace.id, pool_id=pool_id, place=seat)
    await world.app.pools.failed(lease, UpstreamQuotaExhausted("out of money"))


def _new_pool(place: Place) -> dict[str, Any]:
    return {"model": {**ECHO, "type": "LLM"}, "enabled": True, "members": [{"credentialId": place["Credential"]}, {}]}


def _named(type_name: str, *parts: str) -> Callable[[World, Place], Awaitable[str]]:
    async def name(world: World, place: Place) -> str:
        return ids.encode(type_name, place.workspace.id, *parts)

    return name


SAMPLES: Mapping[str, Callable[[World, Place], Awaitable[str]]] = {
    "Workspace": _named("Workspace"),
    "Provider": _named("Provider", "echo"),
    "Model": _named("Model", "echo", "LLM", "echo"),
    "Account": _account,
    "Member": _member,
    "Member.other": _other_member,
    "Invitation": _invitation,
    "ApiToken": _token,
    "Credential": _credential,
    "Pool": _pool,
    "PoolMember": _pool_member,
    "Model.custom": _custom_model,
    "Model.removed": _removed_model,
    "Invocation": _invocation,
    "Quota": _quota,
    "QuotaEntry": _quota_entry,
    "Product": _product,
    "Order": _order,
    "Order.paid": _paid_order,
    "AuditEntry": _audit_entry,
}
"""How a sample of each type is made and found by its id, in this order; a later one may use those before.

Further samples of a type have a name after it.
"""


async def make_places(world: World) -> Mapping[str, Place]:
    """Fill `home` and `away` with a sample of everything."""
    places = {
        "home": Place(workspace=world.home, who="owner"),
        "away": Place(workspace=world.away, who="stranger"),
    }
    for place in places.values():
        for type_name, make in SAMPLES.items():
            place.samples[type_name] = await make(world, place)
    return places


# ---- operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation as it is asked for: its input (or its arguments) of a place's samples, and what it takes.

    `answers` are the codes of those who get another answer than `needs` says; '' is success.
    """

    given: Callable[[Place], dict[str, Any]]
    needs: str | None
    answers: Mapping[str, str] = field(default_factory=dict)

    def expected(self, principal: str) -> str:
        """Return the code that a principal of the world gets, '' for success."""
        if principal == "anonymous" and principal not in self.answers:
            return "UNAUTHENTICATED"
        if principal in self.answers:
            return self.answers[principal]
        assert self.needs is not None, f"say in `answers` what {principal} gets"
        if principal in HOLDERS[self.needs]:
            return ""
        return "NOT_FOUND" if principal == "stranger" else "FORBIDDEN"


def _asked(place: Place, kind: str, **given: Any) -> dict[str, Any]:
    return {"workspaceId": place["Workspace"], "model": {"provider": "echo", "name": f"echo-{kind}"}, **given}


def _all(code: str, *principals: str) -> dict[str, str]:
    return dict.fromkeys(principals, code)


MUTATIONS: Mapping[str, Operation] = {
    # ---- workspaces
    "createWorkspace": Operation(
        given=lambda place: {"name": "Another"},
        needs=None,
        answers=_all("", "owner", "admin", "editor", "member", "operator", "stranger") | {"service": "FORBIDDEN"},
    ),
    "updateWorkspace": Operation(
        given=lambda place: {"id": place["Workspace"], "name": "Renamed"}, needs="WORKSPACE_MANAGE"
    ),
    "deleteWorkspace": Operation(
        given=lambda place: {"id": place["Workspace"], "confirmName": place.workspace.name}, needs="WORKSPACE_DELETE"
    ),
    "rotateWorkspaceKey": Operation(given=lambda place: {"workspaceId": place["Workspace"]}, needs="WORKSPACE_MANAGE"),
    # ---- members
    "addMember": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "email": "new@test", "role": "MEMBER"},
        needs="MEMBER_MANAGE",
    ),
    "revokeInvitation": Operation(given=lambda place: {"id": place["Invitation"]}, needs="MEMBER_MANAGE"),
    "acceptInvitation": Operation(
        given=lambda place: {"invitation": "inv_unknown"},
        needs=None,
        answers=_all("NOT_FOUND", *EVERYBODY, "operator", "stranger", "anonymous"),
    ),
    "updateMember": Operation(
        given=lambda place: {"id": place["Member.other"], "role": "EDITOR"}, needs="MEMBER_MANAGE"
    ),
    "removeMember": Operation(
        given=lambda place: {"id": place["Member.other"]}, needs="MEMBER_MANAGE", answers={"member": ""}
    ),
    # ---- tokens
    "createApiToken": Operation(
        given=lambda place: {
            "workspaceId": place["Workspace"],
            "service": True,
            "name": "another",
            "role": "MEMBER",
            "credentialIds": [place["Credential"]],
        },
        needs="TOKEN_MANAGE",
    ),
    "updateApiToken": Operation(
        given=lambda place: {"id": place["ApiToken"], "name": "other", "credentialIds": [place["Credential"]]},
        needs="TOKEN_MANAGE",
        answers=_all("NOT_FOUND", "editor", "member", "service", "operator"),
    ),
    "revokeApiToken": Operation(
        given=lambda place: {"id": place["ApiToken"]},
        needs="TOKEN_MANAGE",
        answers=_all("NOT_FOUND", "editor", "member", "service", "operator"),
    ),
    # ---- credentials, models and defaults
    "createCredential": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "provider": "echo", "values": []},
        needs="CREDENTIAL_MANAGE",
    ),
    "updateCredential": Operation(
        given=lambda place: {"id": place["Credential"], "name": "renamed"},
        needs="CREDENTIAL_MANAGE",
        answers={"operator": "NOT_FOUND"},
    ),
    "validateCredential": Operation(
        given=lambda place: {"id": place["Credential"]},
        needs="CREDENTIAL_MANAGE",
        answers={"operator": "NOT_FOUND"},
    ),
    "setPreferredProviderType": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "provider": "echo", "type": "CUSTOM"},
        needs="PROVIDER_MANAGE",
    ),
    "refreshModels": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "provider": "echo"},
        needs="MODEL_MANAGE",
        answers=dict.fromkeys(HOLDERS["MODEL_MANAGE"], "INVALID_INPUT"),
    ),
    "activateCredential": Operation(
        given=lambda place: {"id": place["Credential"]},
        needs="CREDENTIAL_MANAGE",
        answers={"operator": "NOT_FOUND"},
    ),
    "deleteCredential": Operation(
        given=lambda place: {"id": place["Credential"]},
        needs="CREDENTIAL_MANAGE",
        answers={"operator": "NOT_FOUND"},
    ),
    "addModel": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], **_new_model("local")},
        needs="MODEL_MANAGE",
    ),
    "updateModel": Operation(given=lambda place: {"id": place["Model.custom"], "label": "Mine"}, needs="MODEL_MANAGE"),
    "removeModel": Operation(given=lambda place: {"id": place["Model.custom"]}, needs="MODEL_MANAGE"),
    "setModelPricing": Operation(
        given=lambda place: {"id": place["Model"], "pricing": {"currency": "USD", "input": "1"}}, needs="MODEL_MANAGE"
    ),
    "setModelEnabled": Operation(given=lambda place: {"id": place["Model"], "enabled": False}, needs="MODEL_MANAGE"),
    "setDefaultModels": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "defaults": [{"type": "LLM", "model": ECHO}]},
        needs="DEFAULT_MANAGE",
    ),
    # ---- pools
    "savePool": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], **_new_pool(place)}, needs="POOL_MANAGE"
    ),
    "setPoolEnabled": Operation(given=lambda place: {"id": place["Pool"], "enabled": False}, needs="POOL_MANAGE"),
    "endCooldown": Operation(given=lambda place: {"memberId": place["PoolMember"]}, needs="POOL_MANAGE"),
    # ---- calls
    "complete": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "model": ECHO, "messages": HELLO}, needs="MODEL_INVOKE"
    ),
    "embed": Operation(given=lambda place: _asked(place, "embedding", texts=["a"]), needs="MODEL_INVOKE"),
    "rerank": Operation(given=lambda place: _asked(place, "rerank", query="a", documents=["b"]), needs="MODEL_INVOKE"),
    "transcribe": Operation(
        given=lambda place: _asked(place, "transcription", audio={"base64": WAV, "mimeType": "audio/wav"}),
        needs="MODEL_INVOKE",
    ),
    "moderate": Operation(given=lambda place: _asked(place, "moderation", text="a"), needs="MODEL_INVOKE"),
    "cancelInvocation": Operation(
        given=lambda place: {"id": place["Invocation"]},
        needs="WORKSPACE_MANAGE",
        answers=_all("NOT_FOUND", "editor", "member", "service", "operator"),
    ),
    "grantQuota": Operation(
        given=lambda place: {
            "workspaceId": place["Workspace"],
            "type": "FREE",
            "unit": "TIMES",
            "limit": 10,
            "idempotencyKey": "grant",
        },
        needs="QUOTA_MANAGE",
    ),
    "adjustQuota": Operation(
        given=lambda place: {"id": place["Quota"], "amount": 1, "note": "more", "idempotencyKey": "adjust"},
        needs="QUOTA_MANAGE",
    ),
    "archiveQuota": Operation(given=lambda place: {"id": place["Quota"]}, needs="QUOTA_MANAGE"),
    # ---- orders
    "createOrder": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "productId": place["Product"]}, needs="ORDER_MANAGE"
    ),
    "cancelOrder": Operation(given=lambda place: {"id": place["Order"]}, needs="ORDER_MANAGE"),
    "markOrderPaid": Operation(
        given=lambda place: {"id": place["Order"], "transactionId": "bank-1"}, needs="ORDER_REFUND"
    ),
    "refundOrder": Operation(
        given=lambda place: {"id": place["Order.paid"], "amount": 1, "idempotencyKey": "refund"}, needs="ORDER_REFUND"
    ),
}
"""Every mutation. Its input names the samples of a place where it takes ids, the optional ones too."""

CALLS = {"complete", "embed", "rerank", "transcribe", "moderate", "cancelInvocation"}
"""Mutations that change nothing that is configured: invocations tell of them, not the audit log."""

OF_STATE = {"endCooldown"}
"""Mutations that change a state that no row holds: the audit log tells of them without a value before and after."""

SUBSCRIPTIONS: Mapping[str, Operation] = {
    "completion": Operation(
        given=lambda place: {"input": {"workspaceId": place["Workspace"], "model": ECHO, "messages": HELLO}},
        needs="MODEL_INVOKE",
    ),
    "speech": Operation(given=lambda place: {"input": _asked(place, "speech", text="a")}, needs="MODEL_INVOKE"),
    "completionEvents": Operation(
        given=lambda place: {"invocationId": place["Invocation"]},
        needs=None,
        answers={"owner": ""} | _all("NOT_FOUND", "admin", "editor", "member", "service", "operator", "stranger"),
    ),
    "credentialChanged": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "credentialId": place["Credential"]},
        needs="CREDENTIAL_READ",
    ),
    "orderChanged": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "orderId": place["Order"]}, needs="ORDER_READ"
    ),
    "poolChanged": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "poolId": place["Pool"]}, needs="POOL_READ"
    ),
    "quotaChanged": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "quotaId": place["Quota"]}, needs="QUOTA_READ"
    ),
    "providerChanged": Operation(
        given=lambda place: {"workspaceId": place["Workspace"], "provider": "echo"}, needs="MODEL_READ"
    ),
}
"""Every subscription, with arguments by which an event comes first."""

_ANYBODY = _all("", *EVERYBODY, "operator", "stranger")
QUERIES: Mapping[str, Operation] = {
    "node": Operation(given=lambda place: {"id": place["Workspace"]}, needs=None, answers=_ANYBODY),
    "nodes": Operation(given=lambda place: {"ids": [place["Workspace"]]}, needs=None, answers=_ANYBODY),
    "countTokens": Operation(
        given=lambda place: {"input": {"workspaceId": place["Workspace"], "model": ECHO, "messages": HELLO}},
        needs="MODEL_INVOKE",
    ),
    "server": Operation(given=lambda place: {}, needs=None, answers=_ANYBODY),
    "viewer": Operation(given=lambda place: {}, needs=None, answers=_ANYBODY),
    "workspace": Operation(given=lambda place: {"id": place["Workspace"]}, needs=None, answers=_ANYBODY),
    "workspaces": Operation(given=lambda place: {}, needs=None, answers=_ANYBODY),
}
"""Every query of the root; what they may not find they give as null."""


def unknown(id_: str, keep: UUID | None = None) -> str:
    """Return an id of the same type and form that names nothing; `keep` stays the workspace where the id names one."""
    decoded = ids.decode(id_)
    assert decoded is not None
    parts: Sequence[str | UUID] = [uuid7() if ids.uuid_of(part) else part for part in decoded[1]]
    return ids.encode(decoded[0], *((keep, *parts[1:]) if keep is not None else parts))
