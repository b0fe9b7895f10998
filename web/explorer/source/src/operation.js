/** What has to be known of a document before it is sent: the kind of its operation, and where completions will stand in the answer. */

import { getOperationAST, parse } from "graphql";

const STREAMED = new Set(["completion", "completionEvents"]);
const WHOLE = new Set(["complete"]);

const UNREADABLE = { name: undefined, kind: "query", streamed: [], whole: [] };

/**
 * Return `{name, kind, streamed, whole}` of the operation that `query` holds, or of the one named `operationName`.
 * A document that does not parse counts as a query, and the server says what is wrong with it.
 */
export function readOperation(query, operationName) {
  const operation = find(query, operationName);
  if (!operation) return { ...UNREADABLE, name: operationName };
  const kind = operation.operation;
  return {
    // GraphiQL reads the name a moment after the text has changed: the text itself is right at once.
    name: operation.name?.value,
    kind,
    streamed: kind === "subscription" ? responseKeys(operation, STREAMED) : [],
    whole: kind === "mutation" ? responseKeys(operation, WHOLE) : [],
  };
}

function find(query, operationName) {
  try {
    const document = parse(query);
    return getOperationAST(document) ?? getOperationAST(document, operationName);
  } catch {
    return null;
  }
}

function responseKeys({ selectionSet }, names) {
  return selectionSet.selections.flatMap((selection) => {
    if (selection.kind === "InlineFragment") return responseKeys(selection, names);
    if (selection.kind !== "Field" || !names.has(selection.name.value)) return [];
    return [selection.alias?.value ?? selection.name.value];
  });
}
