/**
 * Drives the explorer in a real browser and prints one line for each thing that holds.
 *
 * Environment:
 *   EXPLORER_URL         address of the explorer, e.g. http://127.0.0.1:8000/ (needed)
 *   EXPLORER_TOKEN       a token that the server knows (needed)
 *   BROWSER              path of Chromium or Chrome (/usr/bin/chromium)
 *   EXPLORER_MODEL       provider/name to stream from (echo/echo)
 *   EXPLORER_SCREENSHOTS folder for a picture of each theme, and of the page where something does not hold
 *   EXPLORER_PROMPT      text to stream for the pictures (the sample's own)
 *
 * Exits with 1 at the first thing that does not hold.
 */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const URL_ = need("EXPLORER_URL");
const TOKEN = need("EXPLORER_TOKEN");
const ORIGIN = new URL(URL_).origin;
const [PROVIDER, MODEL] = (process.env.EXPLORER_MODEL ?? "echo/echo").split(/\/(.*)/s);
const SCREENSHOTS = process.env.EXPLORER_SCREENSHOTS;
const LIMIT_MS = 60_000;

async function run(page, seen) {
  await step("the page opens without a token and asks for one", async () => {
    await page.goto(URL_, { waitUntil: "networkidle0" });
    await page.waitForSelector(".graphiql-query-editor .CodeMirror");
    await page.waitForSelector('.my-server[data-state="absent"]');
    await onScreen(page, "[data-step]");
  });

  await step("a wrong token is refused in words", async () => {
    await setToken(page, "my_wrong");
    await page.waitForSelector('.my-server[data-state="refused"]');
  });

  await step("the right token shows who is asking, and loads the schema", async () => {
    await setToken(page, TOKEN);
    await page.waitForSelector('.my-server[data-state="known"]');
    await page.click('button[aria-label="Show Documentation Explorer"]');
    await page.waitForFunction(() => document.querySelector(".graphiql-plugin")?.textContent.includes("Subscription"));
    await page.click('button[aria-label="Show First steps"]');
    await onScreen(page, "[data-step]");
  });

  await step("the token is kept for this tab, and longer only when that is ticked", async () => {
    assert.deepEqual(await stored(page), { tab: TOKEN, browser: null });
    await page.click(".my-check input");
    await page.waitForFunction(() => localStorage.getItem("modelyard.token") !== null);
    await page.click(".my-check input");
    await page.waitForFunction(() => localStorage.getItem("modelyard.token") === null);
    assert.deepEqual(await stored(page), { tab: TOKEN, browser: null });
  });

  await step("a sample query runs by Ctrl-Enter, with the token in its header", async () => {
    await openStep(page, "who-am-i", "WhoAmI");
    seen.requests.length = 0;
    await execute(page);
    await page.waitForFunction(() => /"viewer"/.test(document.querySelector(".result-window .CodeMirror").CodeMirror.getValue()));
    const [request] = seen.requests.filter(({ body }) => body?.includes("WhoAmI"));
    assert.equal(request.headers.authorization, `Bearer ${TOKEN}`);
    assert.ok((await response(page)).data.viewer.token.name);
  });

  for (const transport of ["websocket", "sse"]) {
    await step(`a completion streams over ${transport} and its deltas join`, async () => {
      const prompt = `The quick brown fox jumps over the lazy dog, by ${transport}.`;
      seen.clear();
      await choose(page, "transport", transport);
      await openStep(page, "stream-echo", "StreamEcho");
      await setVariables(page, completionInput(prompt));
      await recordTexts(page);
      await execute(page);
      await page.waitForSelector('.my-completion[data-status="finished"]');
      await until(() => noticed(seen, transport), `the operation over ${transport} was seen`);

      const text = await page.$eval(".my-text", (element) => element.textContent);
      const texts = await page.evaluate(() => window.recordedTexts);
      assert.ok(texts.length > 2, `${texts.length} texts were on screen`);
      assert.ok(texts.every((shorter) => text.startsWith(shorter)), "each text continues the one before");
      if (PROVIDER === "echo") assert.ok(text.includes(prompt), text);
      assert.equal((await response(page)).data.completion.__typename, "CompletionFinished");
      assert.match(await page.$eval(".my-completion footer", (element) => element.textContent), /tokens/);
      assert.ok(!(await page.$(".my-completion .my-note")), "no event is missing");
      checkTransport(seen, transport);
    });
  }

  await step("a failed completion says its code and why", async () => {
    const input = completionInput("never said");
    input.input.model = { provider: "echo", name: "no-such-model" };
    await setVariables(page, input);
    await execute(page);
    await page.waitForSelector('.my-completion[data-status="failed"] .my-trouble');
    assert.match(await page.$eval(".my-trouble", (element) => element.textContent), /MODEL_NOT_FOUND/);
  });

  await step("a stream can be stopped", async () => {
    await setVariables(page, completionInput("word ".repeat(4000).trim())); // longer than any wait of these tests
    await execute(page);
    await page.waitForFunction(() => document.querySelector(".my-text")?.textContent.length > 20);
    await page.click(".graphiql-execute-button");
    await page.waitForSelector('.my-completion[data-status="stopped"]');
    await page.waitForFunction(() => document.querySelector('.graphiql-execute-button[aria-label*="Execute"]'));
  });

  await step("a call can be cancelled on the server, which says so", async () => {
    await page.focus(".graphiql-query-editor textarea");
    await execute(page);
    await page.waitForFunction(() => document.querySelector('[data-status="running"] .my-text')?.textContent.length > 20);
    await page.click(".my-cancel");
    await page.waitForSelector('.my-completion[data-status="failed"] .my-trouble');
    assert.match(await page.$eval(".my-trouble", (element) => element.textContent), /CANCELLED/);
  });

  await step("the headers editor adds headers to a query and to connection_init", async () => {
    await openTool(page, "headers");
    await setVisibleTool(page, JSON.stringify({ "X-Note": "kept" }));
    await setQuery(page, "query Header { __typename }");
    seen.clear();
    await execute(page);
    await until(() => seen.requests.some(({ headers }) => headers["x-note"] === "kept"), "the header was sent");

    await choose(page, "transport", "websocket");
    await setQuery(page, subscriptionOf("over the socket"));
    await execute(page);
    await until(() => seen.frames.some(({ type, payload }) => type === "connection_init" && payload["x-note"] === "kept"), "the payload was sent");
    await page.waitForSelector('.my-completion[data-status="finished"]');
    await setVisibleTool(page, "");
    await openTool(page, "variables");
  });

  await step("Escape leaves the editor, so that the keyboard is not caught", async () => {
    await page.focus(".graphiql-query-editor textarea");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement.className === "graphiql-execute-button");
  });

  await step("light and dark can be chosen", async () => {
    for (const theme of ["dark", "light"]) {
      await choose(page, "theme", theme);
      await page.waitForSelector(`body.graphiql-${theme}`);
    }
  });

  await step("a reload keeps the token and the query of this tab", async () => {
    await page.waitForFunction(() => Object.values(sessionStorage).some((kept) => kept.includes("subscription Short")));
    await page.reload({ waitUntil: "networkidle0" });
    await page.waitForSelector('.my-server[data-state="known"]');
    await page.waitForFunction(() =>
      document.querySelector(".graphiql-query-editor .CodeMirror")?.CodeMirror.getValue().includes("completion("),
    );
  });

  await step("a side panel that was closed stays closed", async () => {
    await page.click('button[aria-label="Hide First steps"]');
    await page.waitForFunction(() => localStorage.getItem("modelyard.panel") === "closed");
    await page.reload({ waitUntil: "networkidle0" });
    await page.waitForSelector('button[aria-label="Show First steps"]');
    assert.equal(await page.$("[data-step]"), null);
    await page.click('button[aria-label="Show First steps"]');
    await onScreen(page, "[data-step]");
  });

  await step("the dialogs of the settings and of the short keys open and close", async () => {
    for (const name of ["Open settings dialog", "Open short keys dialog"]) {
      await page.click(`.graphiql-sidebar button[aria-label="${name}"]`);
      await page.waitForFunction(() => document.querySelector(".graphiql-dialog")?.contains(document.activeElement));
      await page.keyboard.press("Escape");
      await page.waitForFunction(() => !document.querySelector(".graphiql-dialog"));
    }
  });

  await step("the editor completes field names from the schema", async () => {
    await page.waitForSelector('.my-server[data-state="known"]');
    await page.waitForFunction(
      () => document.querySelector(".graphiql-query-editor .CodeMirror")?.CodeMirror.options.hintOptions.schema,
    );
    await setQuery(page, "query { ");
    await page.$eval(".graphiql-query-editor .CodeMirror", ({ CodeMirror }) => CodeMirror.setCursor(0, 8));
    await chord(page, "Control", "Space");
    await page.waitForFunction(() => document.querySelector(".CodeMirror-hints")?.textContent.includes("viewer"));
    await page.keyboard.press("Escape");
  });

  await step("nothing came from elsewhere, nothing broke the policy, nothing failed in the console", () => {
    assert.deepEqual(seen.foreign, []);
    assert.deepEqual(seen.complaints, []);
  });

  await step("the policy lets nothing out, and runs no inline script", async () => {
    const escaped = await page.evaluate(async () => {
      const script = document.createElement("script");
      script.textContent = "window.inlineRan = true";
      document.body.append(script);
      const out = await fetch("http://127.0.0.1:9/", { mode: "no-cors" }).then(() => "sent", (error) => error.message);
      return { inline: window.inlineRan === true, out };
    });
    assert.equal(escaped.inline, false);
    assert.notEqual(escaped.out, "sent");
    assert.ok(seen.complaints.some((line) => /Content Security Policy/.test(line)), "the browser says why");
  });

  if (SCREENSHOTS) await takePictures(page);
}

/** Note every request, frame and complaint of the page from now on. */
async function observe(page) {
  const seen = { requests: [], frames: [], foreign: [], complaints: [] };
  seen.clear = () => [seen.requests, seen.frames].forEach((list) => (list.length = 0));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(ORIGIN) && !url.startsWith("data:")) seen.foreign.push(url);
    seen.requests.push({ url, headers: request.headers(), body: request.postData() });
  });
  // A refused token is answered with 401 where the server says so by status: Chromium logs that as an error of the page.
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 40[013]/.test(message.text())) seen.complaints.push(message.text());
  });
  page.on("pageerror", (error) => seen.complaints.push(error.message));
  const devtools = await page.createCDPSession();
  await devtools.send("Network.enable");
  devtools.on("Network.webSocketFrameSent", ({ response: { payloadData } }) => seen.frames.push(JSON.parse(payloadData)));
  devtools.on("Network.webSocketCreated", ({ url }) => {
    if (new URL(url).host !== new URL(ORIGIN).host) seen.foreign.push(url);
  });
  return seen;
}

const overEvents = ({ headers }) => headers.accept === "text/event-stream";
const noticed = (seen, transport) => (transport === "websocket" ? seen.frames.length > 0 : seen.requests.some(overEvents));

function checkTransport(seen, transport) {
  if (transport === "websocket") {
    const [init] = seen.frames;
    assert.equal(init.type, "connection_init");
    assert.deepEqual(init.payload, { authorization: `Bearer ${TOKEN}` });
    return;
  }
  const [request] = seen.requests.filter(overEvents);
  assert.equal(request.headers.authorization, `Bearer ${TOKEN}`);
  assert.deepEqual(seen.frames, []);
}

/** Wait until the first element that `selector` names can be seen and reached. */
const onScreen = (page, selector) =>
  page.waitForFunction((name) => document.querySelector(name)?.getBoundingClientRect().left >= 0, {}, selector);

async function setToken(page, token) {
  await page.click(".my-token-box input", { clickCount: 3 });
  await page.keyboard.press("Backspace");
  await page.type(".my-token-box input", token);
}

/** Open a sample operation; it is open when its name stands in the editor. */
async function openStep(page, step, operation) {
  await page.click(`[data-step="${step}"]`);
  await page.waitForSelector(`[data-step="${step}"][aria-current]`);
  await page.waitForFunction(
    (name) => document.querySelector(".graphiql-query-editor .CodeMirror").CodeMirror.getValue().includes(name),
    {},
    operation,
  );
  await page.focus(".graphiql-query-editor textarea");
}

async function openTool(page, name) {
  await page.click(`.graphiql-editor-tools button[data-name="${name}"]`);
  await page.waitForSelector(`.graphiql-editor-tools button[data-name="${name}"].active`);
}

async function setQuery(page, query) {
  await page.$eval(".graphiql-query-editor .CodeMirror", (element, text) => element.CodeMirror.setValue(text), query);
  await page.focus(".graphiql-query-editor textarea");
}

async function setVariables(page, variables) {
  await setVisibleTool(page, JSON.stringify(variables, null, 2));
  await page.focus(".graphiql-query-editor textarea");
}

const setVisibleTool = (page, text) =>
  page.$$eval(".graphiql-editor-tool .CodeMirror", (tools, value) => {
    tools.find((element) => !element.closest(".hidden")).CodeMirror.setValue(value);
  }, text);

// Echo waits between two words where it is told to: then there is a stream to see.
const completionInput = (text) => ({
  input: {
    model: { provider: PROVIDER, name: MODEL },
    messages: [{ role: "USER", text }],
    ...(PROVIDER === "echo" && { parameters: { delay_ms: 20 } }),
  },
});

const subscriptionOf = (text) => `subscription Short {
  completion(input: {model: {provider: "${PROVIDER}", name: "${MODEL}"}, messages: [{role: USER, text: "${text}"}]}) {
    __typename
    sequence
    ... on TextDelta { text }
  }
}`;

const recordTexts = (page) =>
  page.evaluate(() => {
    window.recordedTexts = [];
    window.recorder?.disconnect();
    window.recorder = new MutationObserver(() => {
      const text = document.querySelector('.my-completion[data-status="running"] .my-text')?.textContent ?? "";
      if (text && text !== window.recordedTexts.at(-1)) window.recordedTexts.push(text);
    });
    window.recorder.observe(document.body, { subtree: true, childList: true, characterData: true });
  });

const response = async (page) =>
  JSON.parse(await page.$eval(".result-window .CodeMirror", (element) => element.CodeMirror.getValue()));

const stored = (page) =>
  page.evaluate(() => ({ tab: sessionStorage.getItem("modelyard.token"), browser: localStorage.getItem("modelyard.token") }));

const choose = (page, name, value) => page.$eval(`input[name="${name}"][value="${value}"]`, (element) => element.click());

/**
 * Run the operation by its short key. While another runs, the same key would stop that one: so wait until none does; and
 * put away the completion before, so that what is seen from now on is of this one.
 */
async function execute(page) {
  await page.waitForSelector('.graphiql-execute-button[aria-label*="Execute"]');
  await page.$$eval('button[aria-label="Close the completion"]', (buttons) => buttons.forEach((button) => button.click()));
  await page.waitForFunction(() => !document.querySelector(".my-completion"));
  await chord(page, "Control", "Enter");
}

async function chord(page, held, key) {
  await page.keyboard.down(held);
  await page.keyboard.press(key);
  await page.keyboard.up(held);
}

async function takePictures(page) {
  await page.evaluate(() => Object.keys(sessionStorage).filter((key) => key.startsWith("graphiql:")).forEach((key) => sessionStorage.removeItem(key)));
  await page.reload({ waitUntil: "networkidle0" });
  await page.waitForSelector('.my-server[data-state="known"]');
  await openStep(page, "stream-echo", "StreamEcho");
  if (process.env.EXPLORER_PROMPT) await setVariables(page, completionInput(process.env.EXPLORER_PROMPT));
  await execute(page);
  await page.waitForSelector('.my-completion[data-status="finished"]');
  for (const theme of ["dark", "light"]) {
    await choose(page, "theme", theme);
    await page.waitForSelector(`body.graphiql-${theme}`);
    await page.screenshot({ path: join(SCREENSHOTS, `explorer-${theme}.png`) });
  }
}

async function until(holds, what) {
  const limit = Date.now() + LIMIT_MS;
  while (!holds()) {
    if (Date.now() > limit) throw new Error(`never seen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function step(what, check) {
  try {
    await check();
  } catch (error) {
    throw new Error(`does not hold: ${what}`, { cause: error });
  }
  console.log(`ok  ${what}`);
}

function need(name) {
  const value = process.env[name];
  if (value) return value;
  console.error(`${name} is not set; see the head of this file`);
  process.exit(2);
}

if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), "explorer-browser-"));
const browser = await puppeteer.launch({
  timeout: LIMIT_MS,
  executablePath: process.env.BROWSER ?? "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  // A container has neither a user for the sandbox nor a large /dev/shm; the page is our own.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
  defaultViewport: { width: 1440, height: 900 },
});
const page = await browser.newPage();
try {
  page.setDefaultTimeout(LIMIT_MS);
  await run(page, await observe(page));
} catch (error) {
  console.error(error);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "failure.png") });
  process.exitCode = 1;
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
