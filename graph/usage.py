"""Usage: what calls used and cost, added up."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from core import entities
from core.entities import InvocationStatus, UsageDimension, UsageInterval
from core.ports.invocations import InvocationQuery
from core.usage import usage
from graph import ids
from graph.context import Context
from graph.invocations import InvocationFilter
from graph.scalars import MAX_SAFE, BigInt
from graph.types import attribute, described, object_type, resolved
from graph.values import Cost, ModelType, ProviderType, Usage

described(
    UsageInterval,
    "How long the parts are into which usage is cut, in UTC.",
    HOUR="Hours.",
    DAY="Days.",
    MONTH="Months.",
)
described(
    UsageDimension,
    "What usage is told apart by.",
    PROVIDER="The provider that served.",
    MODEL="The model's name.",
    TYPE="What the model does.",
    PROVIDER_TYPE="Whose credentials served.",
    CREDENTIAL="The credential that served. Needs CREDENTIAL_READ.",
    ACCOUNT="Who made the call.",
    TOKEN="The token that made the call.",
    END_USER="The end user that the call named.",
    STATUS="How the call ended.",
    TAG="What the tag `tagName` of the call says.",
)


@object_type
class UsageKey:
    """What the calls of a bucket have in common: null for what was not asked for, and for calls without it."""

    key: strawberry.Private[entities.UsageKey]

    @resolved
    def provider(self) -> str | None:
        """The provider that served."""
        return self.key.provider

    @resolved
    def model_name(self) -> str | None:
        """The model's name."""
        return self.key.model_name

    @resolved
    def type(self) -> ModelType | None:
        """What the model does."""
        return self.key.type

    @resolved
    def provider_type(self) -> ProviderType | None:
        """Whose credentials served."""
        return self.key.provider_type

    @resolved
    def credential_name(self) -> str | None:
        """The name that the credential had; credentials of one name have buckets of their own."""
        return self.key.credential_name

    @resolved
    def account_id(self) -> strawberry.ID | None:
        """Who made the calls; null for service tokens."""
        return ids.encode("Account", self.key.account_id) if self.key.account_id is not None else None

    @resolved
    def token_id(self) -> strawberry.ID | None:
        """The token that made the calls."""
        return ids.encode("ApiToken", self.key.token_id) if self.key.token_id is not None else None

    @resolved
    def end_user(self) -> str | None:
        """The end user that the calls named."""
        return self.key.end_user

    @resolved
    def status(self) -> InvocationStatus | None:
        """How the calls ended."""
        return self.key.status

    @resolved
    def tag_value(self) -> str | None:
        """What the tag says."""
        return self.key.tag_value


@object_type
class UsageBucket:
    """What calls that have ended used together."""

    bucket: strawberry.Private[entities.UsageBucket]

    from_: datetime = attribute("They were admitted at this time or later.", name="from")

    @resolved
    def to(self) -> datetime:
        """They were admitted before this time."""
        return self.bucket.until

    @resolved
    def key(self) -> UsageKey:
        """What they have in common."""
        return UsageKey(key=self.bucket.key)

    @resolved
    def calls(self) -> BigInt:
        """How many there were."""
        return min(self.bucket.calls, MAX_SAFE)

    @resolved
    def failures(self) -> BigInt:
        """How many of them failed; a cancelled call has not."""
        return min(self.bucket.failures, MAX_SAFE)

    @resolved
    def usage(self) -> Usage:
        """What they used; `estimated` where the provider of any of them reported nothing."""
        found = Usage.of(self.bucket.usage)
        assert found is not None
        return found

    @resolved
    def costs(self) -> list[Cost]:
        """What they cost, one amount a currency. Calls of unknown price add to none; none at all: no price was known."""
        return [cost for cost in map(Cost.of, self.bucket.costs) if cost is not None]


async def usage_buckets(
    context: Context,
    workspace_id: UUID,
    *,
    since: datetime,
    until: datetime,
    interval: UsageInterval | None,
    group_by: Sequence[UsageDimension],
    tag_name: str | None,
    given: InvocationFilter | None,
    first: int,
) -> list[UsageBucket]:
    """Return the workspace's usage."""
    found = await usage(
        context.app,
        context.who,
        workspace_id,
        since=since,
        until=until,
        interval=interval,
        group_by=group_by,
        tag_name=tag_name,
        calls=given.query(context) if given is not None else InvocationQuery(),
        first=first,
    )
    return [UsageBucket(bucket=bucket, from_=bucket.since) for bucket in found]
