/** The first steps, in reading order. Each operation is checked against the schema when the explorer is built. */

import addModel from "./add-model.graphql";
import cancel from "./cancel.graphql";
import complete from "./complete.graphql";
import createCredential from "./create-credential.graphql";
import credentials from "./credentials.graphql";
import forms from "./forms.graphql";
import invocations from "./invocations.graphql";
import models from "./models.graphql";
import providers from "./providers.graphql";
import route from "./route.graphql";
import server from "./server.graphql";
import setDefault from "./set-default.graphql";
import setModelEnabled from "./set-model-enabled.graphql";
import streamDefault from "./stream-default.graphql";
import streamEcho from "./stream-echo.graphql";
import whoAmI from "./who-am-i.graphql";
import variables from "./variables.json";

const step = (name, title, says, query) => ({ name, title, says, query, variables: text(variables[name]) });
const text = (value) => (value ? JSON.stringify(value, null, 2) : "");

export const STEPS = [
  {
    title: "Look around",
    steps: [
      step("who-am-i", "Who am I?", "Your token, workspace and permissions", whoAmI),
      step("providers", "List the providers", "What can be used, what is missing", providers),
      step("models", "List the models", "And whether each can be called", models),
      step("server", "Check the server", "Database, queue and workers", server),
    ],
  },
  {
    title: "Stream at once",
    steps: [step("stream-echo", "Stream from echo", "Built in: no key, no cost", streamEcho)],
  },
  {
    title: "Bring your own model",
    steps: [
      step("forms", "See what a provider asks for", "The fields of its credential", forms),
      step("add-model", "Add a model", "Any OpenAI-compatible server", addModel),
      step("create-credential", "Store an API key", "For a provider's predefined models", createCredential),
      step("credentials", "List the credentials", "Secrets stay masked", credentials),
      step("set-default", "Set the default model", "It answers when a call names none", setDefault),
      step("set-model-enabled", "Switch a model on or off", "For the whole workspace", setModelEnabled),
      step("route", "Explain the route", "What a call would do, without making it", route),
    ],
  },
  {
    title: "Call it",
    steps: [
      step("stream-default", "Stream a completion", "From the default model", streamDefault),
      step("complete", "Complete in one answer", "Without a stream", complete),
      step("cancel", "Cancel a running call", "By the id of its invocation", cancel),
      step("invocations", "Read the last calls", "Tokens, cost and time of each", invocations),
    ],
  },
];

export const ALL = STEPS.flatMap((group) => group.steps);
