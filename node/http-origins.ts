import { readAuthorities } from "./origin-files.ts";
import type { HttpOrigin } from "./origins/http-origin.ts";
import type { Clock } from "./ports.ts";
import type { HttpOriginSettings } from "./settings/schema.ts";

/** Opens a server's repository as configured. @throws {UsageError} for certificates that cannot be read. */
export async function openHttpOrigin(
  { name, url, caFile, credentialsFile }: HttpOriginSettings,
  { network, clock }: { readonly network: string; readonly clock: Clock },
): Promise<HttpOrigin> {
  const authorities = caFile === undefined ? undefined : await readAuthorities(caFile);
  // undici takes 50 ms to load: not for who has folders only.
  const { HttpOrigin } = await import("./origins/http-origin.ts");
  return new HttpOrigin({ name, url, network, authorities, credentialsFile, clock });
}
