import { globSync } from "node:fs";

/** What every case has: it measures, and prints what it found. */
interface BenchCase {
  run(words: readonly string[]): Promise<void>;
}

/** Each case is a file `<name>.bench.ts` beside this one. */
const names = globSync("*.bench.ts", { cwd: import.meta.dirname }).map((file) => file.replace(/\.bench\.ts$/, ""));
const [name = "", ...words] = process.argv.slice(2);
if (names.includes(name)) {
  const found = (await import(new URL(`./${name}.bench.ts`, import.meta.url).href)) as BenchCase;
  await found.run(words).catch((error: NodeJS.ErrnoException) => {
    if (error.code?.startsWith("ERR_PARSE_ARGS") !== true) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  });
} else {
  process.stderr.write(`npm run bench -- <case>; cases are ${names.sort().join(", ")}\n`);
  process.exitCode = 2;
}
