/** Light or dark: the person's choice, or the system's. */

import { useEffect, useState, useSyncExternalStore } from "react";
import { loadTheme, saveTheme } from "./settings.js";

const darkSystem = matchMedia("(prefers-color-scheme: dark)");

/** Return the choice, the theme that results, and the setter of the choice. */
export function useTheme() {
  const [theme, setTheme] = useState(loadTheme);
  const dark = useSyncExternalStore(onSystemChange, () => darkSystem.matches);
  const resolved = theme === "system" ? (dark ? "dark" : "light") : theme;

  useEffect(() => saveTheme(theme), [theme]);
  useEffect(() => {
    document.documentElement.style.colorScheme = resolved;
  }, [resolved]);
  return [theme, resolved, setTheme];
}

function onSystemChange(listener) {
  darkSystem.addEventListener("change", listener);
  return () => darkSystem.removeEventListener("change", listener);
}
