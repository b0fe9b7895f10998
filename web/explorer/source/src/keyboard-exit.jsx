/** Lets the keyboard out of the editors, where Tab indents: Escape moves on to the run button. */

import { useEffect } from "react";
import { useEditorContext } from "@graphiql/react";

const EXIT = { Esc: () => document.querySelector(".graphiql-execute-button")?.focus() };

export function KeyboardExit() {
  const { queryEditor, variableEditor, headerEditor, responseEditor } = useEditorContext({ nonNull: true });

  useEffect(() => {
    const editors = [queryEditor, variableEditor, headerEditor, responseEditor].filter(Boolean);
    editors.forEach((editor) => editor.addKeyMap(EXIT, true));
    return () => editors.forEach((editor) => editor.removeKeyMap(EXIT));
  }, [queryEditor, variableEditor, headerEditor, responseEditor]);

  return null;
}
