/**
 * Stands in for the package react-style-singleton, which dialogs use to lock scrolling behind them: it writes style
 * elements, which the page's policy forbids; a constructed style sheet does the same and is allowed.
 */

import { useEffect } from "react";

export function styleSingleton() {
  return function Sheet({ styles }) {
    useEffect(() => adopt(styles), [styles]);
    return null;
  };
}

function adopt(styles) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(styles);
  document.adoptedStyleSheets.push(sheet);
  return () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((adopted) => adopted !== sheet);
  };
}
