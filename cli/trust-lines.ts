import type { BegunPolicy, PolicyReport, WrittenPolicy } from "../node/index.ts";
import { columns } from "./print.ts";

// A policy in lines for people.

type Roles = PolicyReport["roles"];

export function plainReport(report: PolicyReport): string[] {
  const { state, expires, since } = report;
  const head = expires === undefined ? "a root is trusted, and nothing was followed yet" : `${state} until ${expires}`;
  const { publishers, retired, revoked, members, denied } = report;
  const rows = [
    ...publishers.map(({ keyid, label, names }) => ["publisher", short(keyid), names.join(" "), label]),
    ...retired.map(({ keyid, at, records }) => ["retired", short(keyid), at, `${records} records stay`]),
    ...revoked.map(({ keyid, at, reason }) => ["revoked", short(keyid), at, reason]),
    ...members.map(({ site, peer, labels, until }) => {
      return ["member", peer, site, [...labels, ...(until === undefined ? [] : [`until ${until}`])].join(" ")];
    }),
    ...denied.map(({ payload, by, at, reason }) => ["denied", short(payload), at, `${by}: ${reason}`]),
  ];
  return [`${head} (first root trusted ${since})`, ...plainRoles(report.roles), ...columns(rows)];
}

export function plainRoles(roles: Roles): string[] {
  return columns(
    roles.map(({ role, version, expires, keyids, threshold }) => {
      return [`  ${role}`, `version ${version}`, `until ${expires}`, `${threshold} of ${keyids.map(short).join(" ")}`];
    }),
  );
}

export function plainWritten({ signed, isInForce }: WrittenPolicy): string[] {
  const what = signed.map(({ role, version }) => `${role} ${version}`).join(", ");
  return [`signed ${what}`, ...(isInForce ? [] : ["waits for `p2pcache trust refresh` where the online key is"])];
}

export function plainBegun({ written, draft, made, root }: BegunPolicy): string[] {
  return [
    ...made.map((path) => `made ${path}`),
    ...(written === undefined ? [] : plainWritten(written)),
    ...(root === undefined ? [] : [`machines follow it once trust.root names a copy of ${root}`]),
    ...(draft === undefined ? [] : [`wrote ${draft}: its keys sign it with \`p2pcache trust sign\``]),
  ];
}

function short(keyid: string): string {
  return keyid.slice(0, 16);
}
