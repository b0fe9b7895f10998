/** What has to be known of a document before it is sent: the kind of its operation, and where completions will stand in the answer. */

import { getOperationAST, parse } from "graphql";

const STREAMED = new Set(["completion", "completionEvents"]);
const WHOLE = new Set(["complete"]);

/** Return `{kind, streamed, whole}`; a document that does not parse counts as a query, and the server says what is wrong. */
export function readOperation(query, operationName) {
  let operation;
  try {
    operation = getOperationAST(parse(query), operationName);
  } catch {
    operation = null;
  }
  if (!operation) return { kind: "query", streamed: [], whole: [] };
  const kind = operation.operation;
  return {
    kind,
    streamed: kind === "subscription" ? responseKeys(operation, STREAMED) : [],
    whole: kind === "mutation" ? responseKeys(operation, WHOLE) : [],
  };
}

function responseKeys({ selectionSet }, names) {
  return selectionSet.selections.flatMap((selection) => {
    if (selection.kind === "InlineFragment") return responseKeys(selection, names);
    if (selection.kind !== "Field" || !names.has(selection.name.value)) return [];
    return [selection.alias?.value ?? selection.name.value];
  });
}
