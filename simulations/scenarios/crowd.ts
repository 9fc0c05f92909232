import type { Report } from "../report.ts";
import { SwarmWorld } from "../swarm-world.ts";
import { swarmFigures, swarmScenarios } from "./swarms.ts";

/**
 * Runs one scenario of the flash crowd. @throws {Error} when something happened that never must, or no such scenario is
 * known.
 */
export function simulateCrowd(name: string, options: { readonly nodes: number; readonly seed: number }): Report {
  const scenario = swarmScenarios[name];
  if (scenario === undefined) throw new Error(`no scenario is called ${name}`);
  const world = new SwarmWorld(scenario.plan(options)).run();
  const [fault] = world.checkers.faults;
  if (fault !== undefined) throw new Error(`${name}, ${options.nodes} nodes, seed ${options.seed}: ${fault}`);
  return { scenario: name, nodes: options.nodes, seed: options.seed, ...swarmFigures(scenario, world) };
}
