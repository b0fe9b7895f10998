/** The panel under the response: a completion as running text, its end, and its figures. */

import { useLayoutEffect, useRef, useState } from "react";
import CANCEL from "./cancel.graphql";
import { BROKEN, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED } from "./completion.js";
import { ask } from "./connection.js";
import { clearCompletion, useCompletion } from "./watch.js";

const STATUS = {
  [RUNNING]: "Streaming",
  [FINISHED]: "Finished",
  [FAILED]: "Failed",
  [INTERRUPTED]: "Interrupted",
  [STOPPED]: "Stopped here",
  [BROKEN]: "Broken off",
};
const TRANSPORT = { websocket: "WebSocket", sse: "SSE", http: "one answer" };

export function CompletionPanel({ token }) {
  const completion = useCompletion();
  if (!completion) return null;
  return (
    <section className="my-completion" data-status={completion.status} aria-label="Completion">
      <Head completion={completion} token={token} />
      <Body completion={completion} />
      <Figures completion={completion} />
    </section>
  );
}

function Head({ completion, token }) {
  const { status, finishReason, model, transport } = completion;
  const ending = finishReason && finishReason !== "STOP" ? `: ${finishReason}` : "";
  return (
    <header>
      <span className="my-dot" aria-hidden="true" />
      <strong role="status">
        {STATUS[status]}
        {ending}
      </strong>
      {model && <span className="my-model">{[model.provider, model.name].filter(Boolean).join(" / ")}</span>}
      <span className="my-quiet">{TRANSPORT[transport]}</span>
      <span className="my-actions">
        {status === RUNNING && completion.invocationId && <Cancel id={completion.invocationId} token={token} />}
        <Copy text={completion.text} label="Copy" title="Copies the text" />
        <button type="button" onClick={clearCompletion} aria-label="Close the completion">
          Close
        </button>
      </span>
    </header>
  );
}

function Body({ completion }) {
  const scroller = useRef(null);
  const following = useRef(true);
  const { reasoning, text, toolCalls, status } = completion;

  useLayoutEffect(() => {
    const element = scroller.current;
    if (following.current) element.scrollTop = element.scrollHeight;
  }, [reasoning, text, toolCalls, status]);

  const onScroll = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
    following.current = scrollHeight - scrollTop - clientHeight < 24;
  };

  return (
    <div className="my-completion-body" ref={scroller} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-label="Text">
      {completion.reroutes.map((reroute, at) => (
        <p className="my-note" key={at}>
          {reroute.failed?.model?.name ?? reroute.model?.name ?? "The first choice"} failed
          {reroute.failed?.error && ` (${reroute.failed.error.code})`}; another candidate took over.
        </p>
      ))}
      {reasoning && (
        <details className="my-reasoning" open>
          <summary>Reasoning</summary>
          <p>{reasoning}</p>
        </details>
      )}
      {(text || status === RUNNING) && <p className="my-text">{text}</p>}
      {toolCalls.map((call, at) => (
        <div className="my-tool" key={call.index ?? at}>
          <strong>{call.name ?? "…"}</strong>
          <code>{pretty(call.arguments)}</code>
        </div>
      ))}
      <Trouble completion={completion} />
    </div>
  );
}

function Trouble({ completion }) {
  const { error, interruption, problem, gap } = completion;
  return (
    <>
      {error && (
        <div className="my-trouble" role="alert">
          <strong>{error.code ?? "The completion failed"}</strong>
          <p>{error.message}</p>
          {error.retryable && <p>It may work on another try{error.retryAfter ? `, in ${error.retryAfter} s` : ""}.</p>}
        </div>
      )}
      {interruption && (
        <div className="my-trouble" role="alert">
          <strong>{interruption.reason ?? "Interrupted"}</strong>
          <p>Only this reader ended; the completion goes on. Rejoin with completionEvents after event {interruption.resumeAfter ?? -1}.</p>
        </div>
      )}
      {problem && (
        <div className="my-trouble" role="alert">
          <strong>{completion.events === 0 ? "Not started" : "Broken off"}</strong>
          <p>{problem}</p>
        </div>
      )}
      {gap && <p className="my-note">Events are missing: the sequence has a gap.</p>}
    </>
  );
}

function Figures({ completion }) {
  const { usage, cost, events, invocationId } = completion;
  return (
    <footer>
      <Timings completion={completion} />
      {usage && <Figure name={usage.estimated ? "tokens, estimated" : "tokens"} value={tokens(usage)} />}
      {cost && <Figure name="cost" value={`${cost.amount} ${cost.currency}`} />}
      <Figure name={events === 1 ? "event" : "events"} value={events} />
      {invocationId && (
        <span className="my-figure">
          <Copy text={invocationId} label="Copy id" title={invocationId} />
        </span>
      )}
    </footer>
  );
}

function Timings({ completion: { startedAt, firstAt, endedAt, status, usage, transport } }) {
  const until = endedAt ?? (status === RUNNING ? performance.now() : null);
  const writing = firstAt !== null && endedAt !== null ? (endedAt - firstAt) / 1000 : 0;
  const speed = writing > 0.05 && usage?.outputTokens > 1 ? usage.outputTokens / writing : null;
  return (
    <>
      {firstAt !== null && transport !== "http" && <Figure name="to the first token" value={duration(firstAt - startedAt)} />}
      {until !== null && <Figure name="in all" value={duration(until - startedAt)} />}
      {speed !== null && <Figure name="tokens/s" value={speed < 10 ? speed.toFixed(1) : Math.round(speed)} />}
    </>
  );
}

function Figure({ name, value }) {
  return (
    <span className="my-figure">
      <b>{value}</b> {name}
    </span>
  );
}

function Copy({ text, label, title }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1200);
  };
  // Browsers give the clipboard to secure origins only: https or this machine.
  if (!navigator.clipboard) return null;
  return (
    <button type="button" onClick={copy} disabled={!text} title={title}>
      {copied ? "Copied" : label}
    </button>
  );
}

function Cancel({ id, token }) {
  const [problem, setProblem] = useState("");
  const cancel = async () => {
    const result = await ask({ query: CANCEL, operationName: "ExplorerCancel", variables: { id } }, token);
    const [error] = result.errors ?? result.data?.cancelInvocation?.errors ?? [];
    setProblem(error?.message ?? "");
  };
  return (
    <button type="button" className="my-cancel" onClick={cancel} title={problem || "Ends the call on the server"}>
      {problem ? "Not cancelled" : "Cancel"}
    </button>
  );
}

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`);

function tokens({ inputTokens, outputTokens, totalTokens, reasoningTokens }) {
  if (inputTokens === undefined || outputTokens === undefined) return totalTokens ?? "?";
  return `${inputTokens} → ${outputTokens}${reasoningTokens ? ` (${reasoningTokens} reasoning)` : ""}`;
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // still arriving
  }
}
