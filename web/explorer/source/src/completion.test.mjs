import assert from "node:assert/strict";
import { test } from "node:test";
import { BROKEN, FAILED, FINISHED, INTERRUPTED, STOPPED, absorb, absorbWhole, begin, end, stop } from "./completion.js";

const fresh = () => begin({ transport: "websocket", now: 0 });
const play = (events) => events.reduce((state, event, at) => absorb(state, event, 10 * (at + 1)), fresh());

test("deltas join in order, text apart from reasoning", () => {
  const state = play([
    { __typename: "CompletionStarted", sequence: 0, invocationId: "i1", model: { name: "echo" } },
    { __typename: "ReasoningDelta", sequence: 1, text: "let me " },
    { __typename: "ReasoningDelta", sequence: 2, text: "see" },
    { __typename: "TextDelta", sequence: 3, text: "Hel" },
    { __typename: "TextDelta", sequence: 4, text: "lo" },
    { __typename: "CompletionFinished", sequence: 5, finishReason: "STOP", message: { text: "Hello" }, usage: { totalTokens: 7 } },
  ]);
  assert.equal(state.text, "Hello");
  assert.equal(state.reasoning, "let me see");
  assert.deepEqual([state.status, state.events, state.firstAt, state.endedAt], [FINISHED, 6, 20, 60]);
  assert.deepEqual([state.usage.totalTokens, state.invocationId, state.gap], [7, "i1", false]);
});

test("tool calls join by index", () => {
  const state = play([
    { __typename: "ToolCallDelta", index: 0, id: "a", name: "weather", arguments: '{"ci' },
    { __typename: "ToolCallDelta", index: 1, id: "b", name: "time", arguments: "{}" },
    { __typename: "ToolCallDelta", index: 0, id: null, name: null, arguments: 'ty":"Oslo"}' },
  ]);
  assert.deepEqual(state.toolCalls, [
    { index: 0, id: "a", name: "weather", arguments: '{"city":"Oslo"}' },
    { index: 1, id: "b", name: "time", arguments: "{}" },
  ]);
});

test("a hole in the sequence is seen", () => {
  assert.equal(play([{ __typename: "TextDelta", sequence: 0, text: "a" }, { __typename: "TextDelta", sequence: 2, text: "c" }]).gap, true);
});

test("events without __typename are known by their fields", () => {
  const state = play([{ text: "a" }, { text: "b" }, { error: { code: "UPSTREAM_TIMEOUT" } }]);
  assert.deepEqual([state.text, state.status, state.error.code], ["ab", FAILED, "UPSTREAM_TIMEOUT"]);
});

test("an interruption takes no number", () => {
  const state = play([
    { __typename: "TextDelta", sequence: 0, text: "a" },
    { __typename: "CompletionInterrupted", sequence: 0, reason: "LAGGED", resumeAfter: 0 },
  ]);
  assert.deepEqual([state.status, state.gap, state.interruption.reason], [INTERRUPTED, false, "LAGGED"]);
});

test("a stream that only stops is broken, one that was stopped is not", () => {
  assert.equal(end(fresh(), 5).status, BROKEN);
  assert.equal(end(fresh(), 5, "no route").problem, "no route");
  assert.equal(end(stop(fresh(), 4), 5).status, STOPPED);
});

test("a whole answer shows its message or its error", () => {
  const good = absorbWhole(fresh(), { message: { text: "Hi", toolCalls: [] }, finishReason: "STOP", errors: [] }, 9);
  assert.deepEqual([good.text, good.status], ["Hi", FINISHED]);
  assert.equal(absorbWhole(fresh(), { message: null, errors: [{ code: "MODEL_NOT_FOUND" }] }, 9).status, FAILED);
});

test("the message at the end stands in where no delta was asked for", () => {
  assert.equal(play([{ __typename: "CompletionFinished", finishReason: "STOP", message: { text: "whole" } }]).text, "whole");
});
