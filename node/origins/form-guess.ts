import type { ChunkForm } from "./objects.ts";

/** In which form chunks lie here, to go by what was found lately: the wrong guess costs a request. */
export class FormGuess {
  /** Of the last chunks that were found, the part that was compressed; older ones count less. */
  #packedShare = 0;

  inOrder(): readonly ChunkForm[] {
    return this.#packedShare > 0.5 ? ["zst", "plain"] : ["plain", "zst"];
  }

  found(form: ChunkForm): void {
    this.#packedShare = 0.75 * this.#packedShare + (form === "zst" ? 0.25 : 0);
  }
}
