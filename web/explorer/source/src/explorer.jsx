/** The page: the bar above, GraphiQL below, and between them the token, the transport and the theme. */

import { useEffect, useMemo, useRef, useState } from "react";
import { DOC_EXPLORER_PLUGIN, DocExplorerContextProvider } from "@graphiql/plugin-doc-explorer";
import { HISTORY_PLUGIN, HistoryContextProvider } from "@graphiql/plugin-history";
import { GraphiQLProvider, usePluginStore } from "@graphiql/react";
import { GraphiQL, GraphiQLInterface } from "graphiql";
import { ALL } from "../operations/index.js";
import { CompletionPanel } from "./completion-panel.jsx";
import { createFetcher } from "./connection.js";
import { FIRST_STEPS } from "./first-steps.jsx";
import { KeyboardExit } from "./keyboard-exit.jsx";
import { useServer } from "./server.js";
import * as settings from "./settings.js";
import { useTheme } from "./theme.js";
import { TopBar } from "./top-bar.jsx";

const PLUGINS = [FIRST_STEPS, DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN];

export function Explorer() {
  const [{ token, remember }, setToken] = useState(settings.loadToken);
  const [transport, setTransport] = useState(settings.loadTransport);
  const [theme, resolvedTheme, setTheme] = useTheme();
  const [openPlugin] = useState(() => settings.loadPlugin(FIRST_STEPS.title));
  const [server, reload] = useServer(token);

  const current = useRef();
  current.current = { token, transport };
  const fetcher = useMemo(() => createFetcher(() => current.current), []);

  useEffect(() => settings.saveToken(token, remember), [token, remember]);
  useEffect(() => settings.saveTransport(transport), [transport]);

  return (
    <>
      <TopBar
        token={token}
        remember={remember}
        onToken={setToken}
        transport={transport}
        onTransport={setTransport}
        theme={theme}
        onTheme={setTheme}
        server={server}
        onReload={reload}
      />
      <main className="my-main">
        <GraphiQLProvider
          fetcher={fetcher}
          schema={server.schema}
          storage={settings.tabStorage}
          shouldPersistHeaders={false}
          defaultQuery={ALL[0].query}
          plugins={PLUGINS}
          referencePlugin={DOC_EXPLORER_PLUGIN}
          visiblePlugin={openPlugin}
          onTogglePluginVisibility={settings.savePlugin}
        >
          <HistoryContextProvider>
            <DocExplorerContextProvider>
              <WithPlugins>
                <GraphiQLInterface isHeadersEditorEnabled defaultEditorToolsVisibility forcedTheme={resolvedTheme}>
                  <GraphiQL.Logo>
                    <KeyboardExit />
                  </GraphiQL.Logo>
                  <GraphiQL.Footer>
                    <CompletionPanel token={token} />
                  </GraphiQL.Footer>
                </GraphiQLInterface>
              </WithPlugins>
            </DocExplorerContextProvider>
          </HistoryContextProvider>
        </GraphiQLProvider>
      </main>
    </>
  );
}

/** GraphiQL decides at its first render whether the side panel is open, one effect before it knows its plugins. */
function WithPlugins({ children }) {
  return usePluginStore((store) => store.plugins.length > 0) && children;
}
