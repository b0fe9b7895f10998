import assert from "node:assert/strict";
import { test } from "node:test";
import { readOperation } from "./operation.js";

test("a single operation is known by its text, whatever name is asked for", () => {
  const found = readOperation("subscription Fresh { completion(input: {}) { sequence } }", "Stale");
  assert.deepEqual(found, { name: "Fresh", kind: "subscription", streamed: ["completion"], whole: [] });
});

test("among several the name decides", () => {
  const document = "query A { viewer } mutation B { done: complete(input: {}) { errors } }";
  assert.deepEqual(readOperation(document, "B"), { name: "B", kind: "mutation", streamed: [], whole: ["done"] });
  assert.equal(readOperation(document, "A").kind, "query");
});

test("an alias and an inline fragment are followed", () => {
  const found = readOperation("subscription { ... on Subscription { mine: completionEvents(invocationId: 1) { sequence } } }");
  assert.deepEqual(found.streamed, ["mine"]);
});

test("a document that does not parse is left to the server", () => {
  assert.deepEqual(readOperation("query {", "A"), { name: "A", kind: "query", streamed: [], whole: [] });
});
