/**
 * Builds the explorer into ../dist: checks the sample operations and the pure code, bundles, names the assets by
 * their content, gathers the licences, and notes which source the files were built from.
 *
 * Usage: node build.mjs [--schema FILE] [--check]. With --check nothing is written. The schema is the repository's
 * schema.graphql unless --schema names another; without either the operations are only parsed.
 */

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { buildSchema, parse, validate } from "graphql";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "..", "dist");
const SCHEMA = join(HERE, "..", "..", "..", "schema.graphql");
const BUDGET_BYTES = 2_000_000;

const { values: options } = parseArgs({ options: { schema: { type: "string" }, check: { type: "boolean" } } });

// GraphiQL's style sheet carries two font families as data; the system's fonts serve.
const systemFonts = {
  name: "system-fonts",
  setup({ onLoad }) {
    onLoad({ filter: /graphiql[\\/]dist[\\/]style\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(/@font-face\s*\{[^}]*\}/g, ""),
      loader: "css",
    }));
  },
};

checkOperations(options.schema ?? (existsSync(SCHEMA) ? SCHEMA : null));
const files = await bundle();
if (!options.check) write(files);
report(files);

function checkOperations(schemaFile) {
  const schema = schemaFile && buildSchema(readFileSync(schemaFile, "utf8"));
  const names = walk(HERE).filter((name) => name.endsWith(".graphql"));
  const problems = names.flatMap((name) => {
    const document = parse(readFileSync(join(HERE, name), "utf8"));
    return schema ? validate(schema, document).map((error) => `${name}: ${error.message}`) : [];
  });
  if (problems.length) fail(`operations that the schema does not allow:\n${problems.join("\n")}`);
  console.log(`${names.length} operations ${schema ? `valid against ${relative(process.cwd(), schemaFile)}` : "parsed; no schema to check them against"}`);
}

/** Return the files of the explorer, name to bytes. */
async function bundle() {
  const result = await build({
    absWorkingDir: HERE,
    entryPoints: { explorer: "src/main.jsx" },
    outdir: "out",
    write: false,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022"],
    jsx: "automatic",
    legalComments: "none",
    charset: "utf8",
    loader: { ".graphql": "text" },
    alias: { "react-style-singleton": "./src/style-sheet.js" },
    define: { "process.env.NODE_ENV": '"production"' },
    metafile: true,
    plugins: [systemFonts],
    logLevel: "warning",
  });
  const out = (end) => Buffer.from(result.outputFiles.find(({ path }) => path.endsWith(end)).contents);
  const script = asset("explorer", "js", out(".js"));
  const style = asset("explorer", "css", out(".css"));
  const icon = asset("icon", "svg", readFileSync(join(HERE, "icon.svg")));
  const licences = asset("licences", "txt", Buffer.from(readLicences(Object.keys(result.metafile.inputs))));
  const names = { script, style, icon, licences };
  const page = readFileSync(join(HERE, "index.html"), "utf8").replace(/\{\{(\w+)\}\}/g, (_, key) => `/${names[key].name}`);
  const files = Object.fromEntries(Object.values(names).map(({ name, bytes }) => [name, bytes]));
  return { "index.html": Buffer.from(page), ...files, "source.sha256": Buffer.from(`${sourceDigest()}\n`) };
}

function asset(name, ending, bytes) {
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  return { name: `assets/${name}-${digest}.${ending}`, bytes };
}

function readLicences(inputs) {
  const packages = new Set(inputs.map((path) => path.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1]).filter(Boolean));
  const sections = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(HERE, folder, "package.json"), "utf8"));
    const file = readdirSync(join(HERE, folder)).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? readFileSync(join(HERE, folder, file), "utf8").trim() : `Licence: ${license}`;
    return `${name} ${version}\n\n${text}\n`;
  });
  return `The explorer contains these packages.\n\n${sections.join(`\n${"-".repeat(78)}\n\n`)}`;
}

/** One digest over every file of the source, in the order of their names; tests/web/test_explorer.py does the same sum. */
function sourceDigest() {
  const sum = createHash("sha256");
  for (const path of walk(HERE).sort()) {
    sum.update(`${path}\0`).update(readFileSync(join(HERE, path))).update("\0");
  }
  return sum.digest("hex");
}

function walk(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "node_modules") return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [relative(HERE, path).split(sep).join("/")];
  });
}

function write(files) {
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(join(DIST, "assets"), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(DIST, name), bytes);
}

function report(files) {
  const sizes = Object.entries(files).map(([name, bytes]) => [name, bytes.length]);
  for (const [name, size] of sizes) console.log(`${String(size).padStart(9)}  ${name}`);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  console.log(`${String(total).padStart(9)}  in all`);
  if (total > BUDGET_BYTES) fail(`more than the ${BUDGET_BYTES} bytes that the explorer may have`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
