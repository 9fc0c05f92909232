import { openHashEngine } from "../hasher.ts";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

/** The Node that runs us, and the hash engine that it loads. */
export function* checkMachine(): Generator<CheckLine> {
  const major = Number(process.versions.node.split(".")[0]);
  const text = `Node ${process.versions.node} at ${process.execPath}`;
  if (major < nodeMajorMin) yield failure("node-version", `${text} is too old`, `install Node ${nodeMajorMin} or 26`);
  else if (major % 2 === 1) yield warning("node-version", `${text} is no long-lived version`, "install Node 24 or 26");
  else yield ok("node-version", text);
  yield engineLine();
}

function engineLine(): CheckLine {
  try {
    const { name } = openHashEngine();
    if (name === "native") return ok("blake3", "the native engine gives the right answers");
  } catch (error) {
    return failure("blake3", (error as Error).message, "install p2pcache anew on this machine");
  }
  return warning(
    "blake3",
    "the native engine does not load: WebAssembly is used, and hashing is five times slower",
    "install p2pcache anew on this machine with its optional dependencies (@napi-rs/blake-hash)",
  );
}

const nodeMajorMin = 24;
