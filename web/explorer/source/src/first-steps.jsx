/** The side panel of sample operations. */

import { useEffect, useState } from "react";
import { useEditorContext } from "@graphiql/react";
import { ALL, STEPS } from "../operations/index.js";

const sampleOf = (query) => ALL.find((step) => step.query.trim() === query.trim());

function FirstSteps() {
  const { queryEditor, variableEditor, addTab } = useEditorContext({ nonNull: true });
  const [waiting, setWaiting] = useState(null);
  const [shown, setShown] = useState(null);

  // A new tab empties the editors after its own render: the step goes in once that has happened.
  useEffect(() => {
    if (!waiting || !queryEditor) return;
    queryEditor.setValue(waiting.query);
    variableEditor?.setValue(waiting.variables);
    setShown(waiting.name);
    setWaiting(null);
    queryEditor.focus();
  }, [waiting, queryEditor, variableEditor]);

  const open = (step) => {
    const query = queryEditor?.getValue() ?? "";
    const variables = variableEditor?.getValue() ?? "";
    const sample = sampleOf(query);
    const untouched = !query.trim() || (sample && (!variables.trim() || variables === sample.variables));
    if (!untouched) addTab();
    setShown(null);
    setWaiting(step);
  };

  return (
    <section className="my-steps" aria-label="First steps">
      <h2>First steps</h2>
      <p>
        Paste a token above, pick a step, press <kbd>Ctrl</kbd> <kbd>Enter</kbd>. The first start of Modelyard wrote the
        owner’s token to <code>owner.token</code> in its data folder.
      </p>
      {STEPS.map((group) => (
        <div key={group.title}>
          <h3>{group.title}</h3>
          <ul>
            {group.steps.map((step) => (
              <li key={step.name}>
                <button
                  type="button"
                  data-step={step.name}
                  aria-current={shown === step.name || undefined}
                  onClick={() => open(step)}
                >
                  <strong>{step.title}</strong>
                  <span>{step.says}</span>
                </button>
              </li>
            ))}
          </ul>
        </div>
      ))}
      <p>
        <kbd>Esc</kbd> leaves an editor, <kbd>Ctrl</kbd> <kbd>Space</kbd> completes. Queries, variables and headers are
        kept for this tab only.
      </p>
    </section>
  );
}

function StepsIcon(props) {
  return (
    <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" {...props}>
      <path d="M8 5h9M8 10h9M8 15h9" />
      <path d="M2.5 5l1 1 2-2M2.5 10l1 1 2-2M2.5 15l1 1 2-2" strokeLinejoin="round" />
    </svg>
  );
}

export const FIRST_STEPS = { title: "First steps", icon: StepsIcon, content: FirstSteps };
