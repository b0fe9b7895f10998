/**
 * A completion of Modelyard in the browser that survives lost connections and restarted servers.
 *
 *   const subscribe = overFetch("/graphql", token);                    // Server-Sent Events, nothing else needed
 *   const subscribe = overSocket(createClient, "wss://…/graphql", token); // createClient is that of `graphql-ws`
 *
 *   for await (const event of completion(subscribe, { messages: [{ role: "USER", text: "Hello" }] })) {
 *     if (event.__typename === "TextDelta") show(event.text);
 *   }
 *
 * The events are those of the subscription `completion`, each once and in order, however often the connection is lost. The
 * last one is CompletionFinished or CompletionFailed; CompletionInterrupted comes only where the token is no longer valid.
 * Leaving the loop leaves the completion, which goes on for a while: `cancelInvocation` ends it at once.
 */

const EVENT = `{
  __typename invocationId sequence
  ... on TextDelta { text }
  ... on ReasoningDelta { text }
  ... on ToolCallDelta { index id name arguments }
  ... on CompletionFinished { finishReason message { text reasoning continuation toolCalls { id name arguments } }
    usage { inputTokens outputTokens } }
  ... on CompletionFailed { error { code message path retryable retryAfter } }
  ... on CompletionInterrupted { reason retryAfter }
}`;
const BEGIN = `subscription ($input: CompletionInput!) { event: completion(input: $input) ${EVENT} }`;
const REJOIN = `subscription ($id: ID!, $after: Int) { event: completionEvents(invocationId: $id, after: $after) ${EVENT} }`;
const LAST = new Set(["CompletionFinished", "CompletionFailed", "CompletionInterrupted"]);
const RESTARTS = 1012; // the code by which a server that stops closes a socket on which nothing runs
const UNKNOWN_TOKEN = 4403; // the code by which it closes the socket of whom it does not know

/** The server does not take the request, or does not know the token; `errors` say why. */
export class RequestRefused extends Error {
  constructor(errors) {
    super(errors[0]?.message ?? "The server refused the request.");
    this.errors = errors;
  }
}

/** The connection is lost. `mayHaveBegun`: what was asked for may be under way. */
export class ConnectionLost extends Error {
  constructor(mayHaveBegun, cause) {
    super("The connection to the server was lost.", { cause });
    this.mayHaveBegun = mayHaveBegun;
  }
}

/**
 * Yields the events of a new completion.
 *
 * Throws RequestRefused; and ConnectionLost where no server was to be had for `patience` milliseconds, or where the
 * connection was lost before the first event, so that nobody knows whether the call is made.
 */
export async function* completion(subscribe, input, { patience = 60_000 } = {}) {
  let operation = { query: BEGIN, variables: { input } };
  let id = null;
  let after = -1;
  let heard = Date.now();
  for (let turn = 0; ; turn++) {
    let pause = Math.min(100 * 2 ** turn, 2000);
    try {
      for await (const { data, errors } of subscribe(operation)) {
        if (errors) throw new RequestRefused(errors);
        const { event } = data;
        if (event.invocationId === null) {
          if (!event.error.retryable || Date.now() - heard > patience) return void (yield event);
          pause = event.error.retryAfter === null ? pause : event.error.retryAfter * 1000;
          break;
        }
        if (event.__typename === "CompletionInterrupted" && event.reason !== "UNAUTHORIZED") {
          pause = (event.retryAfter ?? 0) * 1000;
          break;
        }
        [id, after, heard, turn] = [event.invocationId, event.sequence, Date.now(), 0];
        yield event;
        if (LAST.has(event.__typename)) return;
      }
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      if ((id === null && error.mayHaveBegun) || Date.now() - heard > patience) throw error;
    }
    if (id !== null) operation = { query: REJOIN, variables: { id, after } };
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Subscribes by Server-Sent Events over fetch: each operation is a request of its own. */
export function overFetch(url, token) {
  return async function* (operation) {
    const leaving = new AbortController();
    try {
      const answer = await fetch(url, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json", accept: "text/event-stream" },
        body: JSON.stringify(operation),
        signal: leaving.signal,
      });
      if (answer.status >= 502) throw new ConnectionLost(answer.status !== 503);
      if (!answer.ok) throw new RequestRefused((await answer.json()).errors);
      let rest = "";
      for await (const text of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
        const parts = (rest + text).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          const lines = part.split("\n");
          if (lines.includes("event: complete")) return;
          const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
          if (data.length > 0) yield JSON.parse(data.join("\n"));
        }
      }
      throw new ConnectionLost(true);
    } catch (error) {
      if (error instanceof ConnectionLost || error instanceof RequestRefused) throw error;
      throw new ConnectionLost(true, error);
    } finally {
      leaving.abort();
    }
  };
}

/**
 * Subscribes over a socket of `graphql-ws`. It must not try again by itself: that would begin the call anew.
 */
export function overSocket(createClient, url, token) {
  const client = createClient({ url, connectionParams: { authorization: `Bearer ${token}` }, retryAttempts: 0 });
  return async function* (operation) {
    try {
      yield* client.iterate(operation);
    } catch (error) {
      if (Array.isArray(error)) throw new RequestRefused(error);
      if (error?.code === UNKNOWN_TOKEN) {
        throw new RequestRefused([{ message: error.reason, extensions: { code: "UNAUTHENTICATED" } }]);
      }
      throw new ConnectionLost(error?.code !== RESTARTS, error);
    }
  };
}

// A ReadableStream is iterable in few browsers only.
async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
