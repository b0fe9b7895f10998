/** Sends operations: plain HTTP for queries and mutations, WebSocket or SSE for subscriptions, the token on each. */

import { createClient as createSSE } from "graphql-sse";
import { createClient as createWebSocket } from "graphql-ws";
import { readOperation } from "./operation.js";
import { watch } from "./watch.js";

export const ENDPOINT = "/graphql";

/**
 * Return GraphiQL's fetcher. `settings()` gives the token and the transport of the moment, so that a change
 * of either holds for the next operation.
 */
export function createFetcher(settings) {
  return (params, options) => ({
    subscribe(observer) {
      const { token, transport } = settings();
      const operation = readOperation(params.query, params.operationName);
      const headers = requestHeaders(token, options?.headers);
      const send = operation.kind === "subscription" ? SUBSCRIBE[transport] : post;
      const via = operation.kind === "subscription" ? transport : "http";
      const watcher = watch(operation, { transport: via });
      const sink = perFrame(observer, watcher);
      const close = send({ ...params, operationName: operation.name }, headers, sink);
      return {
        unsubscribe() {
          sink.stop();
          close();
        },
      };
    },
  });
}

/** Send one query over HTTP and return its result; faults of the connection become errors of the result. */
export function ask(params, token, signal) {
  return exchange(params, requestHeaders(token), signal);
}

/** Names in lower case; an Authorization in the headers editor wins over the token field. */
function requestHeaders(token, edited = {}) {
  const named = Object.entries(edited ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  return { ...(token && { authorization: `Bearer ${token}` }), ...Object.fromEntries(named) };
}

function post(params, headers, sink) {
  const controller = new AbortController();
  exchange(params, headers, controller.signal).then((result) => {
    if (controller.signal.aborted) return;
    sink.next(result);
    sink.complete();
  });
  return () => controller.abort();
}

async function exchange(params, headers, signal) {
  try {
    const response = await fetch(ENDPOINT, {
      method: "POST",
      headers: {
        accept: "application/graphql-response+json, application/json;q=0.9",
        "content-type": "application/json",
        ...headers,
      },
      body: JSON.stringify(params),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
    return await readResult(response);
  } catch (error) {
    return failure(`The server could not be asked: ${error.message}`);
  }
}

async function readResult(response) {
  const text = await response.text();
  try {
    const result = JSON.parse(text);
    if (result && typeof result === "object" && ("data" in result || "errors" in result)) return result;
  } catch {
    // not JSON: told below
  }
  return failure(`The server answered HTTP ${response.status} ${response.statusText}`.trim(), text.slice(0, 500));
}

const SUBSCRIBE = { websocket: subscribeWebSocket, sse: subscribeSSE };

// One socket for one subscription: the token of connection_init is then the token of the moment.
function subscribeWebSocket(params, headers, sink) {
  const client = createWebSocket({
    url: `${location.origin.replace(/^http/, "ws")}${ENDPOINT}`,
    connectionParams: headers,
    connectionAckWaitTimeout: 10_000,
    retryAttempts: 0,
  });
  return follow(client, params, sink, (error) => closeMessage(error));
}

function subscribeSSE(params, headers, sink) {
  const client = createSSE({ url: ENDPOINT, headers, credentials: "omit", retryAttempts: 0 });
  return follow(client, params, sink, async (error) => (error.response ? readResult(error.response) : failure(`The stream could not be read: ${error.message}`)));
}

function follow(client, params, sink, explain) {
  const unsubscribe = client.subscribe(params, {
    next: sink.next,
    error: async (error) => {
      sink.next(Array.isArray(error) ? { errors: error } : await explain(error));
      sink.complete();
      client.dispose();
    },
    complete: () => {
      sink.complete();
      client.dispose();
    },
  });
  return () => {
    unsubscribe();
    client.dispose();
  };
}

const CLOSE_CODES = {
  1001: "The server is going away.",
  1006: "The connection broke, or the server refused it.",
  1011: "The server failed.",
  1012: "The server is restarting.",
  4401: "The server does not know this token.",
  4403: "The server refused this token.",
  4408: "The server waited too long for the start of the connection.",
  4429: "Too many connections or starts of a connection.",
  4504: "The server did not acknowledge the connection.",
};

function closeMessage(error) {
  if (typeof error?.code !== "number") return failure(error?.message || "The connection could not be made.");
  const said = error.reason && error.reason !== CLOSE_CODES[error.code] ? ` (${error.reason})` : "";
  return failure(`${CLOSE_CODES[error.code] ?? "The server closed the connection."} WebSocket code ${error.code}${said}`);
}

const failure = (message, body) => ({ errors: [{ message, ...(body && { extensions: { body } }) }] });

/** The watcher sees every result, the response pane only the newest of each frame: it shows no more than that. */
function perFrame(observer, watcher) {
  let newest = null;
  let frame = null;
  let open = true;
  const flush = () => {
    if (frame !== null) cancelAnimationFrame(frame);
    frame = null;
    if (newest !== null) observer.next(newest);
    newest = null;
  };
  return {
    next(result) {
      if (!open) return;
      watcher?.event(result);
      newest = result;
      frame ??= requestAnimationFrame(flush);
    },
    complete() {
      if (!open) return;
      flush();
      open = false;
      watcher?.ended();
      observer.complete();
    },
    stop() {
      if (!open) return;
      flush();
      open = false;
      watcher?.stopped();
    },
  };
}
