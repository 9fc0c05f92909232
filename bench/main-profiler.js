// Loaded before a node (`--import`): its main thread's profile is written at SIGTERM, since a node ends in a way of its
// own that `--cpu-prof` does not see. Those of its worker threads `--cpu-prof` writes.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";

if (isMainThread && process.env.MAIN_PROFILES !== undefined) {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.start");
  process.on("SIGTERM", () => {
    session.post("Profiler.stop", (_error, answer) => {
      const path = join(process.env.MAIN_PROFILES, `main-${process.pid}.cpuprofile`);
      if (answer !== undefined) writeFileSync(path, JSON.stringify(answer.profile));
    });
  });
}
