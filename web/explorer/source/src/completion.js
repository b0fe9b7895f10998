/** One completion as text: joins the events of the stream into what a person wants to read. Pure. */

export const RUNNING = "running";
export const FINISHED = "finished";
export const FAILED = "failed";
export const INTERRUPTED = "interrupted";
export const STOPPED = "stopped";
export const BROKEN = "broken";

/** Return a completion of which nothing has arrived yet. Times are milliseconds of one monotonic clock. */
export function begin({ transport, now }) {
  return {
    transport,
    status: RUNNING,
    startedAt: now,
    firstAt: null,
    endedAt: null,
    events: 0,
    sequence: null,
    gap: false,
    invocationId: null,
    model: null,
    providerType: null,
    credentialName: null,
    reroutes: [],
    reasoning: "",
    text: "",
    toolCalls: [],
    finishReason: null,
    usage: null,
    cost: null,
    error: null,
    interruption: null,
    problem: null,
  };
}

/** Return `completion` with one more event of its stream. */
export function absorb(completion, event, now) {
  const counted = count(completion, event);
  const join = JOINS[kindOf(event)];
  return join ? join(counted, event, now) : counted;
}

/** Return `completion` after a whole answer, as the mutation `complete` gives it. */
export function absorbWhole(completion, payload, now) {
  const error = payload?.errors?.[0] ?? null;
  const invocation = payload?.invocation;
  return {
    ...completion,
    events: 1,
    status: error ? FAILED : FINISHED,
    endedAt: now,
    ...spoken(completion, payload?.message),
    finishReason: payload?.finishReason ?? null,
    invocationId: invocation?.id ?? null,
    model: invocation?.model ?? null,
    usage: invocation?.usage ?? null,
    cost: invocation?.cost ?? null,
    error,
  };
}

/** Return `completion` after its stream ended; one without a terminal event is broken, whatever the transport said. */
export function end(completion, now, problem = null) {
  if (completion.status !== RUNNING) return completion;
  const missing = "The stream ended without CompletionFinished or CompletionFailed.";
  return { ...completion, status: BROKEN, endedAt: now, problem: problem ?? missing };
}

/** Return `completion` after the person stopped reading it. */
export function stop(completion, now) {
  return completion.status === RUNNING ? { ...completion, status: STOPPED, endedAt: now } : completion;
}

function count(completion, event) {
  const { sequence } = event;
  const ordered = sequence === undefined || event.__typename === "CompletionInterrupted";
  const expected = completion.sequence === null ? sequence : completion.sequence + 1;
  return {
    ...completion,
    events: completion.events + 1,
    sequence: ordered ? completion.sequence : sequence,
    gap: completion.gap || (!ordered && sequence !== expected),
    invocationId: event.invocationId ?? completion.invocationId,
  };
}

const JOINS = {
  CompletionStarted: (completion, { model, providerType, credentialName }) => ({
    ...completion,
    model: model ?? null,
    providerType: providerType ?? null,
    credentialName: credentialName ?? null,
  }),
  CompletionRerouted: (completion, { failed, model, credentialName }) => ({
    ...completion,
    reroutes: [...completion.reroutes, { failed: failed ?? null, model: completion.model }],
    model: model ?? completion.model,
    credentialName: credentialName ?? null,
  }),
  TextDelta: (completion, { text }, now) => ({
    ...first(completion, now),
    text: completion.text + (text ?? ""),
  }),
  ReasoningDelta: (completion, { text }, now) => ({
    ...first(completion, now),
    reasoning: completion.reasoning + (text ?? ""),
  }),
  ToolCallDelta: (completion, delta, now) => ({
    ...first(completion, now),
    toolCalls: joinToolCall(completion.toolCalls, delta),
  }),
  CompletionFinished: (completion, event, now) => ({
    ...completion,
    status: FINISHED,
    endedAt: now,
    ...spoken(completion, event.message),
    finishReason: event.finishReason ?? null,
    usage: event.usage ?? null,
    cost: event.cost ?? null,
  }),
  // `usage` is nullable here and not in CompletionFinished: one document can ask for both only under two names.
  CompletionFailed: (completion, event, now) => ({
    ...completion,
    status: FAILED,
    endedAt: now,
    error: event.error ?? {},
    usage: event.usage ?? event.usageSoFar ?? null,
  }),
  CompletionInterrupted: (completion, event, now) => ({
    ...completion,
    status: INTERRUPTED,
    endedAt: now,
    interruption: event,
  }),
};

// An event whose document asks for no __typename is known by a field that only it has.
const MARKS = [
  ["finishReason", "CompletionFinished"],
  ["reason", "CompletionInterrupted"],
  ["error", "CompletionFailed"],
  ["arguments", "ToolCallDelta"],
  ["failed", "CompletionRerouted"],
  ["text", "TextDelta"],
  ["providerType", "CompletionStarted"],
];

function kindOf(event) {
  return event.__typename ?? MARKS.find(([field]) => field in event)?.[1];
}

const first = (completion, now) => ({ ...completion, firstAt: completion.firstAt ?? now });

// Deltas that were asked for win over the message at the end, which repeats them.
function spoken(completion, message) {
  return {
    text: completion.text || (message?.text ?? ""),
    reasoning: completion.reasoning || (message?.reasoning ?? ""),
    toolCalls: completion.toolCalls.length ? completion.toolCalls : (message?.toolCalls ?? []),
  };
}

function joinToolCall(calls, { index = 0, id, name, arguments: piece }) {
  const known = calls.find((call) => call.index === index);
  const before = known ?? { index, id: null, name: null, arguments: "" };
  const after = {
    ...before,
    id: id ?? before.id,
    name: name ?? before.name,
    arguments: before.arguments + (piece ?? ""),
  };
  return known ? calls.map((call) => (call === known ? after : call)) : [...calls, after];
}
