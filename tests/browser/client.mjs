/**
 * Reads completions in a real browser by the client of docs/clients/browser, through a proxy that cuts connections.
 *
 * Environment:
 *   API_URLS   addresses of API processes of one installation, separated by commas (needed)
 *   API_TOKEN  a token that they know (needed)
 *   API_MODEL  the name of an openai_compatible model (needed)
 *   API_TEXT   what it says (needed)
 *   BROWSER    path of Chromium or Chrome (/usr/bin/chromium)
 *
 * Exits with 1 at the first thing that does not hold.
 */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const { API_URLS, API_TOKEN: TOKEN, API_MODEL: MODEL, API_TEXT: TEXT } = process.env;
const PORTS = API_URLS.split(",").map((url) => Number(new URL(url).port));
const FILES = {
  "/client/": "<!doctype html><title>A page with the client</title>",
  "/client/modelyard.js": source("../../docs/clients/browser/modelyard.js"),
  "/client/client.js": source("node_modules/graphql-ws/dist/client.js"),
};
for (const [, name] of FILES["/client/client.js"].matchAll(/from '\.\/(common-[^']+)'/g)) {
  FILES[`/client/${name}`] = source(`node_modules/graphql-ws/dist/${name}`);
}
const CUTS = 3;

function source(path) {
  return readFileSync(new URL(path, import.meta.url), "utf8");
}

/** Serves the page and its files, and passes other connections on to the processes in turn, cutting some. */
function cuttingProxy() {
  let turn = 0;
  const proxy = createServer((client) => {
    client.on("error", () => client.destroy());
    client.once("data", (data) => {
      const [, path] = String(data).split(" ", 2);
      if (path === "/graphql") return void passOn(proxy, client, PORTS[turn++ % PORTS.length], data);
      const body = FILES[path] ?? "";
      const type = path.endsWith(".js") ? "text/javascript" : "text/html";
      const head = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
      return void client.end(head + body);
    });
  });
  proxy.cuts = 0;
  return new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(proxy)));
}

/** Breaks the connection after so many bytes while there are cuts left. */
function passOn(proxy, client, port, first) {
  const api = connect(port, "127.0.0.1");
  let left = proxy.cuts > 0 ? 1500 + 500 * proxy.cuts : Infinity;
  let begun = false;
  api.on("data", (data) => {
    if (!begun) {
      begun = data.includes('"sequence"'); // who has had no event at all could not know that its call is made
      return void client.write(data);
    }
    left -= data.length;
    if (left > 0) return void client.write(data);
    proxy.cuts -= 1;
    client.resetAndDestroy();
    return void api.resetAndDestroy();
  });
  api.write(first);
  client.on("data", (data) => api.write(data));
  api.on("error", () => client.destroy());
  api.on("close", () => client.destroy());
  client.on("close", () => api.destroy());
}

async function read(page, way, token = TOKEN) {
  return page.evaluate(
    async (way, token, model) => {
      const { completion, overFetch, overSocket } = await import("/client/modelyard.js");
      const { createClient } = await import("/client/client.js");
      const url = `${location.origin}/graphql`;
      const subscribe = way === "fetch" ? overFetch(url, token) : overSocket(createClient, url.replace("http", "ws"), token);
      const input = { model: { provider: "openai_compatible", name: model }, messages: [{ role: "USER", text: "hi" }] };
      const events = [];
      try {
        for await (const event of completion(subscribe, input)) events.push(event);
      } catch (error) {
        return [...events, { refused: error.errors?.[0].extensions.code ?? String(error) }];
      }
      return events;
    },
    way,
    token,
    MODEL,
  );
}

const proxy = await cuttingProxy();
const origin = `http://127.0.0.1:${proxy.address().port}`;
const profile = mkdtempSync(join(tmpdir(), "client-browser-"));
const browser = await puppeteer.launch({
  timeout: 60_000,
  executablePath: process.env.BROWSER ?? "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  // A container has neither a user for the sandbox nor a large /dev/shm; the page is our own.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
});
try {
  const page = await browser.newPage();
  await page.goto(`${origin}/client/`);
  for (const way of ["fetch", "socket"]) {
    proxy.cuts = CUTS;
    const events = await read(page, way);
    assert.equal(proxy.cuts, 0, "every cut was made");
    assert.deepEqual(events.map(({ sequence }) => sequence), events.map((_, number) => number));
    assert.equal(events.at(-1).__typename, "CompletionFinished");
    assert.equal(events.filter(({ __typename }) => __typename === "TextDelta").map(({ text }) => text).join(""), TEXT);
    assert.equal(events.at(-1).message.text, TEXT);
    console.log(`ok  a completion over ${way} that is cut ${CUTS} times is whole`);
    assert.deepEqual(await read(page, way, "my_wrong"), [{ refused: "UNAUTHENTICATED" }]);
    console.log(`ok  a token that nobody knows is refused over ${way}, and not tried again`);
  }
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  proxy.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit();
