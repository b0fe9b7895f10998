/** The completion on show: one at a time, told to the panel at most once a frame. */

import { useSyncExternalStore } from "react";
import { absorb, absorbWhole, begin, end, stop } from "./completion.js";

let shown = null;
let frame = null;
const listeners = new Set();

export const useCompletion = () => useSyncExternalStore(subscribe, () => shown);

export function clearCompletion() {
  show(null);
}

/**
 * Return a watcher for one operation, or null where it holds no completion.
 * `event` takes each result, `ended` the end of the stream, `stopped` the person's own end of it.
 */
export function watch(operation, { transport }) {
  const [streamed] = operation.streamed;
  const [whole] = operation.whole;
  const key = streamed ?? whole;
  if (!key) return null;

  let state = begin({ transport, now: performance.now() });
  const update = (next) => {
    const isShown = shown === state;
    state = next;
    if (isShown) show(next);
  };
  shown = state;
  tell();

  return {
    event(result) {
      const value = result?.data?.[key];
      const now = performance.now();
      if (value) update(streamed ? absorb(state, value, now) : absorbWhole(state, value, now));
      else if (result?.errors) update(end(state, now, result.errors.map((error) => error.message).join("\n")));
    },
    ended: () => update(end(state, performance.now())),
    stopped: () => update(stop(state, performance.now())),
  };
}

function show(next) {
  shown = next;
  frame ??= requestAnimationFrame(tell);
}

function tell() {
  if (frame !== null) cancelAnimationFrame(frame);
  frame = null;
  listeners.forEach((listener) => listener());
}

function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
