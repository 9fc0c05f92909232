import type { PayloadId } from "../../protocol/hash.ts";
import { defaultRegistryLimits } from "../../protocol/payload-registry.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import { Registrar } from "../../protocol/registrar.ts";
import { registerQuestion } from "./swarm-member.ts";

export const payload = "11".repeat(32) as PayloadId;
export const groups = 6;

export function bits(...held: number[]): Uint8Array {
  const bytes = new Uint8Array(1);
  for (const group of held) bytes[group >> 3]! |= 1 << (group & 7);
  return bytes;
}

export const question = (more: Partial<RegisterQuestion> = {}): RegisterQuestion => {
  return { ...registerQuestion, groups, site: "", held: bits(), ...more };
};

/** A registrar that is asked as a sentence reads: `ask("a", 0, …)`. */
export function scene(limits = defaultRegistryLimits) {
  const registrar = new Registrar(seededRandom(1), { limits });
  const ask = (from: string, nowMs: number, more: Partial<RegisterQuestion> = {}): RegisterAnswer =>
    registrar.ask(from, payload, question(more), nowMs)!;
  return { registrar, ask };
}
export const reported = (held: readonly number[]) => held.map((group) => ({ group, arrived: 0 }));
export const leased = ({ leases }: RegisterAnswer) => leases.map(({ group }) => group);
