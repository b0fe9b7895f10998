"""How many calls there may be in a minute, and how many tokens they may use: which limits a call is under."""

from uuid import UUID

from core.access import Viewer
from core.errors import RateLimited
from core.model_types import ModelType
from core.plan import Step
from core.ports.rates import Limited, Rate, RateOf
from core.settings import Settings

FORESEEN_OUTPUT = 512
"""How many tokens an answer is taken for until it is there, where it may have as many."""


def rates_of(viewer: Viewer, workspace_id: UUID, settings: Settings) -> tuple[Rate, ...]:
    """Return the limits of a viewer's calls in a workspace: the token's, and what settings give each workspace."""
    rates = []
    allowance = viewer.allowance
    if allowance is not None and (allowance.requests_per_minute or allowance.tokens_per_minute):
        rates.append(
            Rate(
                of=RateOf.TOKEN,
                id=viewer.token_id,
                requests=allowance.requests_per_minute,
                tokens=allowance.tokens_per_minute,
            )
        )
    requests, tokens = settings.workspace_requests_per_minute, settings.workspace_tokens_per_minute
    if requests or tokens:
        rates.append(Rate(of=RateOf.WORKSPACE, id=workspace_id, requests=requests, tokens=tokens))
    return tuple(rates)


def foreseen_tokens(step: Step) -> int:
    """Return about how many tokens a call will use; what only writes sound or numbers is taken for its input alone."""
    output = min(step.estimate.output, FORESEEN_OUTPUT) if step.key.type is ModelType.LLM else 0
    return step.estimate.input_likely + output


def refusal(limited: Limited) -> RateLimited:
    """Return why a call is not made now."""
    rate = limited.rate
    may = f"make {rate.requests} calls" if limited.requests else f"use {rate.tokens} tokens"
    return RateLimited(
        f"This {rate.of.lower()} may {may} a minute, which leaves no room for this call now: ask again in "
        f"{limited.retry_after:.1f} s.",
        retry_after=limited.retry_after,
    )
