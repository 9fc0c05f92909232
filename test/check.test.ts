import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

/** Something that `npm run check` must refuse, and which of its parts do. */
interface Fault {
  readonly name: string;
  readonly path: string;
  readonly text: string;
  readonly refusedBy: readonly Part[];
}
type Part = "tsc" | "biome";

const checkout = join(import.meta.dirname, "..");
const fromNode = 'import { one } from "../node/one.ts";\n\nexport const two: number = one;\n';
const numberFrom = (expression: string) => `export function number(): number {\n  return ${expression};\n}\n`;

const faults: readonly Fault[] = [
  { name: "a clock in protocol/", path: "protocol/a.ts", text: numberFrom("Date.now()"), refusedBy: ["biome"] },
  { name: "new Date() in protocol/", path: "protocol/a.ts", text: numberFrom("+new Date()"), refusedBy: ["biome"] },
  {
    name: "a monotonic clock in protocol/",
    path: "protocol/a.ts",
    text: numberFrom("performance.now()"),
    refusedBy: ["tsc", "biome"],
  },
  {
    name: "Math.random() in protocol/",
    path: "protocol/a.ts",
    text: numberFrom("Math.random()"),
    refusedBy: ["biome"],
  },
  {
    name: "Math.random handed on in protocol/",
    path: "protocol/a.ts",
    text: "export const random: () => number = Math.random;\n",
    refusedBy: ["biome"],
  },
  {
    name: "Math.random by another name in protocol/",
    path: "protocol/a.ts",
    text: `const { random } = Math;\n${numberFrom("random()")}`,
    refusedBy: ["biome"],
  },
  {
    name: "a clock behind globalThis in protocol/",
    path: "protocol/a.ts",
    text: numberFrom("globalThis.Date.now()"),
    refusedBy: ["biome"],
  },
  {
    name: "Math.random() in simulations/",
    path: "simulations/a.ts",
    text: numberFrom("Math.random()"),
    refusedBy: ["biome"],
  },
  { name: "node/ in protocol/", path: "protocol/a.ts", text: fromNode, refusedBy: ["tsc", "biome"] },
  { name: "node:fs in protocol/", path: "protocol/a.ts", text: 'import "node:fs";\n', refusedBy: ["tsc", "biome"] },
  {
    name: "a library other than cborg in protocol/",
    path: "protocol/a.ts",
    text: 'import { z } from "zod";\n\nexport const schema: unknown = z;\n',
    refusedBy: ["biome"],
  },
  {
    name: "protocol/ in cli/",
    path: "cli/a.ts",
    text: 'import { zero } from "../protocol/index.ts";\n\nexport const two: number = zero;\n',
    refusedBy: ["biome"],
  },
  { name: "a file of node/ but its index in cli/", path: "cli/a.ts", text: fromNode, refusedBy: ["biome"] },
  {
    name: "cli/ in node/",
    path: "node/a.ts",
    text: 'import { three } from "../cli/three.ts";\n\nexport const four: number = three;\n',
    refusedBy: ["tsc"],
  },
];

const check = suite("npm run check", { room: "" });
check.before((context) => {
  context.room = makeRoom();
});
check.after((context) => rmSync(context.room, { recursive: true, force: true }));

check("runs the compiler and Biome", () => {
  const { scripts } = JSON.parse(readFileSync(join(checkout, "package.json"), "utf8"));
  assert.match(scripts.check, /\btsc -b\b.*&&.*\bbiome check\b/);
});

check("lets clean rooms through", ({ room }) => {
  for (const part of ["tsc", "biome"] as const) assert.equal(run(part, room), { status: 0, output: "" });
});

for (const fault of faults) {
  check(`refuses ${fault.name}`, ({ room }) => {
    const path = join(room, fault.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, fault.text);
    try {
      for (const part of fault.refusedBy) {
        const { status, output } = run(part, room);
        assert.is.not(status, 0, `${part} let it through`);
        assert.match(output, refusal(part, fault.path));
      }
    } finally {
      rmSync(path);
    }
  });
}

check("refuses Node's globals in protocol/", ({ room }) => {
  const path = join(room, "protocol/tsconfig.json");
  const config = readFileSync(path, "utf8");
  cpSync(fileURLToPath(import.meta.resolve("../protocol/purity.ts")), join(room, "protocol/purity.ts"));
  assert.is(run("tsc", room).output, "");
  writeFileSync(path, config.replace('"compilerOptions": {', '"compilerOptions": { "types": ["node"],'));
  const { status, output } = run("tsc", room);
  assert.is.not(status, 0);
  assert.match(output, /purity\.ts.*Unused '@ts-expect-error' directive/);
});

check.run();

/** The smallest tree that has the rooms, with the checkout's own configuration. */
function makeRoom(): string {
  const room = mkdtempSync(join(tmpdir(), "p2pcache-check-"));
  symlinkSync(join(checkout, "node_modules"), join(room, "node_modules"));
  const copied = ["biome.json", "biome", "tsconfig.base.json", ".gitignore"];
  const configs = ["protocol", "node", "cli"].map((name) => `${name}/tsconfig.json`);
  for (const path of [...copied, ...configs, "protocol/globals.d.ts"]) {
    cpSync(join(checkout, path), join(room, path), { recursive: true });
  }
  const written = {
    "package.json": '{\n  "type": "module"\n}\n',
    "tsconfig.json": '{ "files": [], "references": [{ "path": "protocol" }, { "path": "node" }, { "path": "cli" }] }\n',
    "protocol/index.ts": 'export { encode } from "cborg";\nexport const zero = 0;\n',
    "node/one.ts": 'import { zero } from "../protocol/index.ts";\n\nexport const one: number = zero + 1;\n',
    "node/index.ts": 'export { one } from "./one.ts";\n',
    "cli/three.ts": 'import { one } from "../node/index.ts";\n\nexport const three: number = one + 2;\n',
  };
  for (const [path, text] of Object.entries(written)) writeFileSync(join(room, path), text);
  return room;
}

/** What a part says of this file when it refuses it for what it does, not for how it is formatted. */
function refusal(part: Part, path: string): RegExp {
  return part === "tsc"
    ? new RegExp(`^${path}\\(.*: error TS`, "m")
    : new RegExp(`^::error title=(lint/|plugin).*/${path},`, "m");
}

/** Runs one part as `npm run check` does; `output` is empty when it has nothing to say. */
function run(part: Part, room: string): { readonly status: number | null; readonly output: string } {
  const words = {
    tsc: ["typescript/bin/tsc", "-b"],
    biome: ["@biomejs/biome/bin/biome", "check", "--reporter=github"],
  }[part];
  const [program, ...rest] = words;
  const script = join(checkout, "node_modules", program!);
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...rest], { cwd: room, encoding: "utf8" });
  const output = `${stdout}${stderr}`.trim();
  return { status, output: status === 0 && part === "biome" ? "" : output };
}
