/** What the explorer keeps in the browser: nothing outlives the tab but choices of the page, and a token that is to be remembered. */

const TOKEN = "modelyard.token";
const THEME = "modelyard.theme";
const TRANSPORT = "modelyard.transport";
const PLUGIN = "modelyard.panel";
const CLOSED = "closed";

export const THEMES = ["system", "light", "dark"];
export const TRANSPORTS = ["websocket", "sse"];

export function loadToken() {
  const remembered = read(localStorage, TOKEN);
  return { token: read(sessionStorage, TOKEN) ?? remembered ?? "", remember: remembered !== null };
}

/** Keep `token` for this tab, and beyond it only where `remember` says so. */
export function saveToken(token, remember) {
  write(sessionStorage, TOKEN, token);
  write(localStorage, TOKEN, remember ? token : "");
}

export const loadTheme = () => choice(read(localStorage, THEME), THEMES);
export const saveTheme = (theme) => write(localStorage, THEME, theme);
export const loadTransport = () => choice(read(localStorage, TRANSPORT), TRANSPORTS);
export const saveTransport = (transport) => write(localStorage, TRANSPORT, transport);

/** The title of the side panel that was open last; "" for none, `first` for one who has not chosen yet. */
export function loadPlugin(first) {
  const title = read(localStorage, PLUGIN);
  return title === CLOSED ? "" : (title ?? first);
}

export const savePlugin = (plugin) => write(localStorage, PLUGIN, plugin?.title ?? CLOSED);

const PREFIX = "graphiql:";
const ownKeys = () => Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));

/** GraphiQL's own storage. It ends with the tab, since variables may hold a provider's key. */
export const tabStorage = {
  getItem: (key) => read(sessionStorage, key),
  setItem: (key, value) => sessionStorage.setItem(key, value),
  removeItem: (key) => sessionStorage.removeItem(key),
  clear: () => ownKeys().forEach((key) => sessionStorage.removeItem(key)),
  get length() {
    return ownKeys().length;
  },
};

const choice = (value, allowed) => (allowed.includes(value) ? value : allowed[0]);

function read(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null; // storage switched off: the explorer works, and forgets
  }
}

function write(storage, key, value) {
  try {
    if (value) storage.setItem(key, value);
    else storage.removeItem(key);
  } catch {
    // storage switched off or full: see read
  }
}
