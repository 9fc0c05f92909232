import type { Bitmap } from "../protocol/bitmap.ts";
import type { RegisterAnswer, RegisterQuestion } from "../protocol/register-messages.ts";

/** What members say to each other; `payload` is its place in the world's list. Pieces are flows, not messages. */
export type VirtualMessage =
  | { readonly kind: "join"; readonly payload: number }
  | { readonly kind: "joined"; readonly payload: number; readonly have: Bitmap | "all" }
  | { readonly kind: "refused"; readonly payload: number }
  | { readonly kind: "part"; readonly payload: number }
  | { readonly kind: "have"; readonly payload: number; readonly items: readonly number[]; readonly isAll: boolean }
  | { readonly kind: "request"; readonly payload: number; readonly items: readonly number[] }
  | { readonly kind: "cancel"; readonly payload: number; readonly items: readonly number[] }
  | {
      readonly kind: "busy";
      readonly payload: number;
      readonly items: readonly number[];
      readonly retryAfterMs: number;
    }
  | { readonly kind: "gone"; readonly payload: number; readonly items: readonly number[] }
  | { readonly kind: "register"; readonly payload: number; readonly question: RegisterQuestion }
  | { readonly kind: "answer"; readonly payload: number; readonly answer: RegisterAnswer };

/** A message on its way. */
export interface Letter {
  readonly from: number;
  readonly message: VirtualMessage;
}
