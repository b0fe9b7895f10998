/** The bar above GraphiQL: token, connection, transport of subscriptions, theme. */

import { useId, useState } from "react";
import { THEMES, TRANSPORTS } from "./settings.js";

const TRANSPORT_LABELS = { websocket: "WebSocket", sse: "SSE" };
const THEME_LABELS = { system: "Auto", light: "Light", dark: "Dark" };

export function TopBar({ token, remember, onToken, transport, onTransport, theme, onTheme, server, onReload }) {
  return (
    <header className="my-bar">
      <div className="my-brand">
        <Mark />
        <h1>Modelyard</h1>
      </div>
      <TokenField token={token} remember={remember} onToken={onToken} />
      <button type="button" className="my-server" data-state={server.state} title={server.detail || "Ask again"} onClick={onReload}>
        <span className="my-dot" aria-hidden="true" />
        <span role="status">{server.label}</span>
        {server.state === "refused" && <span className="my-server-detail">{server.detail}</span>}
      </button>
      <div className="my-bar-end">
        <Choice legend="Subscriptions over" name="transport" options={TRANSPORTS} labels={TRANSPORT_LABELS} value={transport} onChange={onTransport} />
        <Choice legend="Theme" name="theme" options={THEMES} labels={THEME_LABELS} value={theme} onChange={onTheme} quiet />
      </div>
    </header>
  );
}

function TokenField({ token, remember, onToken }) {
  const [visible, setVisible] = useState(false);
  const id = useId();
  const change = (event) => onToken({ token: event.target.value.replace(/^\s*bearer\s+|\s+/gi, ""), remember });
  return (
    <div className="my-token">
      <label htmlFor={id}>Token</label>
      <div className="my-token-box">
        <input
          id={id}
          type={visible ? "text" : "password"}
          value={token}
          onChange={change}
          placeholder="personal or workspace"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck="false"
          data-1p-ignore=""
        />
        <button type="button" onClick={() => setVisible(!visible)} aria-pressed={visible} aria-label="Show the token">
          {visible ? "Hide" : "Show"}
        </button>
      </div>
      <label className="my-check" title="Keeps the token in this browser after the tab is closed">
        <input type="checkbox" checked={remember} onChange={(event) => onToken({ token, remember: event.target.checked })} />
        Remember
      </label>
    </div>
  );
}

function Choice({ legend, name, options, labels, value, onChange, quiet = false }) {
  return (
    <fieldset className="my-choice">
      <legend className={quiet ? "my-hidden" : undefined}>{legend}</legend>
      <div>
        {options.map((option) => (
          <label key={option}>
            <input type="radio" name={name} value={option} checked={option === value} onChange={() => onChange(option)} />
            <span>{labels[option]}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="var(--my-accent-solid)" />
      <path d="M8 23V9l8 9 8-9v14" fill="none" stroke="#fff" strokeWidth="3" strokeLinecap="round" strokeLinejoin="round" />
      <circle cx="16" cy="23" r="2" fill="#fbbf24" />
    </svg>
  );
}
