import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";

/** A file of the tree: its path from the checkout, with `/`, and its text. */
interface Source {
  readonly path: string;
  readonly text: string;
}
/** What is wrong with one file; nothing, if all is well. */
type Rule = (source: Source) => string[];

const checkout = join(import.meta.dirname, "..");
const notOurs = new Set(["node_modules", "dist", ".git"]);
const linesMax = 400;
const rooms = /^(protocol|node|cli|simulations|bench|test)\//;

/** Which library may be imported only where (STYLE, "Who may see whom"). Tests see all. */
const doors: readonly { readonly library: RegExp; readonly door: string }[] = [
  { library: /^(libp2p|@libp2p\/.*|@chainsafe\/.*|@multiformats\/.*)$/, door: "node/swarm/" },
  { library: /^level$/, door: "node/store/" },
  { library: /^(blake3-wasm|@napi-rs\/blake-hash)(\/.*)?$/, door: "node/hasher.ts" },
  { library: /^(fastify|@fastify\/.*)$/, door: "node/http/" },
  { library: /^(tuf-js|@tufjs\/.*)(\/.*)?$/, door: "node/trust/" },
  { library: /^undici$/, door: "node/origins/" },
  { library: /^pino(-pretty)?$/, door: "node/log.ts" },
  { library: /^(commander|cli-progress)$/, door: "cli/" },
];

const suitesAreRun: Rule = ({ path, text }) => {
  if (!path.endsWith(".test.ts")) return [];
  const names = [...text.matchAll(/\b(?:const|let) (\w+) = suite\b/g)].map((found) => found[1]!);
  if (/^test(\.\w+)*\(/m.test(text) || names.length === 0) names.push("test");
  return names.filter((name) => !text.includes(`${name}.run()`)).map((name) => `never calls ${name}.run()`);
};

const noTestIsAlone: Rule = ({ path, text }) =>
  path.endsWith(".test.ts") && /^\s*\w+\.only\(/m.test(text) ? ["runs some of its tests only"] : [];

const filesAreShort: Rule = ({ path, text }) => {
  const lines = text.trimEnd().split("\n").length;
  return isSource(path) && lines > linesMax ? [`has ${lines} lines, more than ${linesMax}`] : [];
};

const randomnessIsAnArgument: Rule = ({ path, text }) =>
  /^(protocol|simulations)\//.test(path) && /\bMath\s*\.\s*random\b/.test(text) ? ["uses Math.random"] : [];

const foldersOfNodeAreApart: Rule = ({ path, text }) => {
  const folder = /^node\/([^/]+)\//.exec(path)?.[1];
  if (folder === undefined) return [];
  return importsOf(text)
    .filter((target) => target.startsWith("."))
    .filter((target) => {
      const other = /^node\/([^/]+)\//.exec(join(dirname(path), target))?.[1];
      return other !== undefined && other !== folder;
    })
    .map((target) => `node/${folder}/ imports ${target}: they meet in node/ports.ts and node/node.ts`);
};

const librariesHaveOneDoor: Rule = ({ path, text }) => {
  if (!isSource(path) || path.startsWith("test/")) return [];
  return importsOf(text).flatMap((target) =>
    doors
      .filter(({ library, door }) => library.test(target) && !path.startsWith(door))
      .map(({ door }) => `imports ${target}, whose door is ${door}`),
  );
};

/** Written in parts, so that it does not find itself. */
const machinePath = new RegExp(`(?<![\\w.)}\\]/])/(?:${["tmp/[a-z]", "root/", "work/", "home/[a-z]"].join("|")})`, "g");

const noMachinePaths: Rule = ({ path, text }) => {
  if (path.endsWith(".md") || path.startsWith("test/fixtures/")) return [];
  return text
    .split("\n")
    .flatMap((line, at) => [...line.matchAll(machinePath)].map(([found]) => `line ${at + 1} names ${found}…`));
};

const linksLead: Rule = ({ path, text }) => {
  if (!path.endsWith(".md")) return [];
  const prose = text.replace(/^(```|~~~)[\s\S]*?^\1/gm, "").replace(/`[^`\n]*`/g, "");
  return [...prose.matchAll(/\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]: +(\S+)/gm)]
    .map((found) => (found[1] ?? found[2]!).replace(/#.*$/, ""))
    .filter((target) => target !== "" && !/^[a-z][a-z+.-]*:/i.test(target))
    .filter((target) => !leadsSomewhere(join(dirname(path), decodeURIComponent(target))))
    .map((target) => `links to ${target}, which is not in the tree`);
};

const tree = suite("the tree");
const sources = readTree();

const rules: Readonly<Record<string, Rule>> = {
  "every suite is run": suitesAreRun,
  "no test runs alone": noTestIsAlone,
  "no source file is over 400 lines": filesAreShort,
  "randomness is an argument in protocol/ and simulations/": randomnessIsAnArgument,
  "the folders of node/ do not import each other": foldersOfNodeAreApart,
  "every library has one door": librariesHaveOneDoor,
  "no file names a path of some machine": noMachinePaths,
  "every relative link leads to a file": linksLead,
};
for (const [name, rule] of Object.entries(rules)) {
  tree(name, () => {
    const found = sources.flatMap((source) => rule(source).map((fault) => `${source.path} ${fault}`));
    assert.is(found.join("\n"), "");
  });
}
tree.run();

const refusals = suite("the rules themselves");
const somewhere = ["", "tmp", "x"].join("/");
const refused: readonly (readonly [rule: Rule, path: string, text: string])[] = [
  [suitesAreRun, "test/a.test.ts", 'test("a", () => {});'],
  [suitesAreRun, "test/a.test.ts", "const one = suite();\nconst two = suite();\none.run();"],
  [noTestIsAlone, "test/a.test.ts", 'test.only("a", () => {});'],
  [filesAreShort, "node/a.ts", "\n".repeat(linesMax).concat("end")],
  [randomnessIsAnArgument, "protocol/a.ts", "Math.random()"],
  [foldersOfNodeAreApart, "node/store/a.ts", 'import { b } from "../swarm/b.ts";'],
  [foldersOfNodeAreApart, "node/store/a.ts", 'new URL("../lanes/lane-worker.ts", import.meta.url)'],
  [librariesHaveOneDoor, "node/store/a.ts", 'import { createLibp2p } from "libp2p";'],
  [librariesHaveOneDoor, "node/a.ts", 'await import("blake3-wasm")'],
  [librariesHaveOneDoor, "node/a.ts", 'import type {\n  Level,\n} from "level";'],
  [noMachinePaths, "node/a.ts", `const path = "${somewhere}";`],
  [linksLead, "docs/a.md", "[a page](no-such-page.md)"],
  [linksLead, "README.md", "[outside](../README.md)"],
];
for (const [rule, path, text] of refused) {
  refusals(`${path} is refused for ${JSON.stringify(text.slice(-60))}`, () =>
    assert.is.not(rule({ path, text }).length, 0),
  );
}
refusals("what is in order is let through", () => {
  const text =
    'import { Clock } from "../ports.ts";\nimport { Level } from "level";\nconst url = "https://x.invalid/home/page";';
  const source = { path: "node/store/a.ts", text };
  assert.equal(
    Object.values(rules).flatMap((rule) => rule(source)),
    [],
  );
});
refusals.run();

/** What a file imports, re-exports, requires, or starts as a worker. */
function importsOf(text: string): string[] {
  const pattern = /\b(?:from|import|import\(|require\(|resolve\(|new URL\()\s*["']([^"'\n]+)["']/g;
  return [...text.matchAll(pattern)].map((found) => found[1]!);
}

function isSource(path: string): boolean {
  return rooms.test(path) && /\.[jt]s$/.test(path) && !path.startsWith("test/fixtures/");
}

function leadsSomewhere(path: string): boolean {
  return !relative(".", path).startsWith("..") && existsSync(join(checkout, path));
}

function readTree(directory = ""): Source[] {
  return readdirSync(join(checkout, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (notOurs.has(entry.name)) return [];
    if (entry.isDirectory()) return readTree(path);
    if (!entry.isFile() || /\.(cpuprofile|tsbuildinfo)$/.test(entry.name)) return [];
    const bytes = readFileSync(join(checkout, path));
    return bytes.includes(0) ? [] : [{ path, text: bytes.toString("utf8") }];
  });
}
