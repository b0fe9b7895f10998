"""The use cases of the types whose result comes whole: resolve, admit, try, settle, one way for all."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from core.access import Viewer
from core.app import App
from core.asking import Asked, Asking, Kind, Plan
from core.capabilities import check_embedding, check_moderation, check_rerank, check_transcription
from core.configuration import Configuration
from core.media import fetch_audio
from core.metering import expected
from core.model_types import ModelType, moderation, rerank, speech2text, text_embedding
from core.model_types.llm import Media
from core.model_types.moderation import ModerationRequest, Verdict
from core.model_types.rerank import Ranking, RerankRequest
from core.model_types.speech2text import Transcript, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingRequest, Embeddings
from core.once import begin_once
from core.provider import Call
from core.whole_owner import Outcome, Wait, WholeOwner
from core.work import Batches, Single, Work

T = TypeVar("T")

_EMBEDDING = Kind(ModelType.TEXT_EMBEDDING, "embed", Embeddings)
_RERANK = Kind(ModelType.RERANK, "rerank", Ranking)
_TRANSCRIPTION = Kind(ModelType.SPEECH2TEXT, "transcribe", Transcript)
_MODERATION = Kind(ModelType.MODERATION, "moderate", Verdict)


async def embed(app: App, viewer: Viewer, asked: Asked, request: EmbeddingRequest) -> Outcome[Embeddings]:
    """Embed texts, in as many requests as the provider needs for them. A refusal is raised, here and below."""

    async def work(plan: Plan) -> Batches:
        adapter = plan.adapter(plan.provider.text_embedding)
        plan.leave_out(partial(check_embedding, request))
        return Batches(adapter, request)

    foreseen = text_embedding.estimate_usage(request)
    return await _Whole(app, viewer, asked, _EMBEDDING, request, request.end_user, foreseen).made(work)


async def rerank_documents(app: App, viewer: Viewer, asked: Asked, request: RerankRequest) -> Outcome[Ranking]:
    """Order documents by how well they answer a query, the best first."""
    foreseen = rerank.estimate_usage(request)

    async def work(plan: Plan) -> Single[Ranking]:
        adapter = plan.adapter(plan.provider.rerank)
        plan.leave_out(partial(check_rerank, request))

        async def attempt(call: Call) -> Ranking:
            ranking = await adapter.rerank(call, request)
            return msgspec.structs.replace(ranking, hits=rerank.best(request, ranking.hits))

        estimate = expected(foreseen, rerank.bound_usage(request))
        return Single(attempt, lambda found: found.usage or foreseen, foreseen, estimate)

    return await _Whole(app, viewer, asked, _RERANK, request, request.end_user, foreseen).made(work)


async def transcribe(
    app: App, viewer: Viewer, asked: Asked, audio: Media, request: Callable[[speech2text.Audio], TranscriptionRequest]
) -> Outcome[Transcript]:
    """Write down a recording, which is fetched first where it is given by its address."""
    nothing = request(speech2text.Audio(content=b"", mime_type="", filename=""))

    async def work(plan: Plan) -> Single[Transcript]:
        adapter = plan.adapter(plan.provider.speech2text)
        given = request(await fetch_audio(app.http, audio))
        plan.leave_out(partial(check_transcription, given))
        foreseen = speech2text.estimate_usage(given, "")
        return Single(
            partial(adapter.transcribe, request=given),
            lambda found: found.usage or speech2text.estimate_usage(given, found.text),
            foreseen,
            expected(foreseen, speech2text.bound_usage(given)),
        )

    return await _Whole(app, viewer, asked, _TRANSCRIPTION, (audio, nothing), nothing.end_user).made(work)


async def moderate(app: App, viewer: Viewer, asked: Asked, request: ModerationRequest) -> Outcome[Verdict]:
    """Judge whether a text is harmful."""
    foreseen = moderation.estimate_usage(request)

    async def work(plan: Plan) -> Single[Verdict]:
        adapter = plan.adapter(plan.provider.moderation)
        plan.leave_out(partial(check_moderation, request))
        attempt = partial(adapter.moderate, request=request)
        return Single(attempt, lambda found: found.usage or foreseen, foreseen, expected(foreseen))

    return await _Whole(app, viewer, asked, _MODERATION, request, request.end_user, foreseen).made(work)


class _Whole(Asking[T], Generic[T]):
    """One request whose result comes whole."""

    async def made(self, work: Callable[[Plan], Awaitable[Work[T]]]) -> Outcome[T]:
        """Make the call and wait for its end, or for that of the one that its key stands for.

        Whoever leaves before leaves it running for the grace time.
        """
        app = self._app

        async def plan(configuration: Configuration) -> tuple[Plan, Work[T]]:
            found = self._plan(configuration)
            intended = await work(found)
            return found.expecting(intended.estimate(found.steps[0].card)), intended

        async def begin(planned: tuple[Plan, Work[T]]) -> Outcome[T]:
            wait = await app.running.finish(self._begin(*planned), lambda begun: begun.owned.abandoned())
            await wait.owned.wait()
            return wait.outcome.result()

        return await begin_once(app, self._viewer, self._asked.workspace_id, self._once, plan, begin, self._join)

    async def _begin(self, plan: Plan, work: Work[T]) -> Wait[T]:
        invocation, tries = await self._admit(plan)
        wait: Wait[T] = Wait(invocation)
        owner = WholeOwner(self._app, invocation, tries, wait, work, is_kept=self._once is not None)
        wait.owned = owner.owned = self._app.running.start(wait, owner.run(), self._app.settings.grace_seconds)
        return wait

    async def _join(self, invocation_id: UUID) -> Outcome[T]:
        """Return how the call ends, or has ended, that the key stands for."""
        owned = self._app.running.find(invocation_id)
        if owned is not None and isinstance(owned.stream, Wait):
            await owned.wait()
            here: Outcome[T] = owned.stream.outcome.result()
            return here
        record = await self._ended(invocation_id)
        if record.error is not None:
            return Outcome(invocation_id=invocation_id, result=None, problem=record.error)
        return Outcome(invocation_id=invocation_id, result=await self._result(invocation_id), problem=None)
