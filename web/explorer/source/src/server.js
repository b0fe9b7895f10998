/** What the server says of itself to this token: who the viewer is, and the schema. */

import { buildClientSchema, getIntrospectionQuery } from "graphql";
import { useCallback, useEffect, useState } from "react";
import { ask } from "./connection.js";
import VIEWER from "./viewer.graphql";

const INTROSPECTION = getIntrospectionQuery({ schemaDescription: true, specifiedByUrl: true, inputValueDeprecation: true, oneOf: true });
const TYPING_PAUSE_MS = 250;

const ABSENT = { state: "absent", label: "Paste your token", detail: "Every operation needs one.", schema: null };
const ASKING = { state: "asking", label: "Connecting…", detail: "", schema: null };

/** Return `{state, label, detail, schema}` for `token` and a function that asks again. */
export function useServer(token) {
  const [server, setServer] = useState(token ? ASKING : ABSENT);
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((count) => count + 1), []);

  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(async () => {
      setServer((before) => ({ ...ASKING, schema: before.schema }));
      const found = await look(token, controller.signal);
      if (!controller.signal.aborted) setServer(found);
    }, TYPING_PAUSE_MS);
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [token, round]);

  return [server, reload];
}

async function look(token, signal) {
  const introspection = ask({ query: INTROSPECTION, operationName: "IntrospectionQuery" }, token, signal);
  const viewer = token ? ask({ query: VIEWER, operationName: "ExplorerViewer" }, token, signal) : null;
  const [{ schema, problem }, person] = await Promise.all([introspection.then(readSchema), viewer]);
  const greeting = token ? greet(person) : ABSENT;
  if (greeting.state === "known" && !schema) return { state: "refused", label: "No schema", detail: problem, schema };
  return { ...greeting, schema };
}

function readSchema(result) {
  if (!result.data?.__schema) return { schema: null, problem: firstMessage(result) };
  try {
    return { schema: buildClientSchema(result.data), problem: "" };
  } catch (error) {
    return { schema: null, problem: error.message };
  }
}

function greet(result) {
  const viewer = result.data?.viewer;
  if (!viewer) return { state: "refused", label: label(result), detail: firstMessage(result) };
  const who = viewer.account?.name ?? viewer.token.name;
  const where = viewer.workspace ? ` · ${viewer.workspace.name}` : "";
  const power = viewer.isOperator ? "operator" : viewer.token.role.toLowerCase();
  return { state: "known", label: `${who}${where}`, detail: `Token “${viewer.token.name}”, ${power}` };
}

const firstMessage = (result) => result.errors?.[0]?.message ?? "The server sent no schema.";

function label(result) {
  const code = result.errors?.[0]?.extensions?.code;
  if (code === "UNAUTHENTICATED") return "Token not known";
  return code ?? "Not connected";
}
