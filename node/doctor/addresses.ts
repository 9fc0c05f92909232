/** What of a multiaddr can be tried with a plain socket. */
export interface TcpAddress {
  /** An IP address, or a name. */
  readonly host: string;
  readonly port: number;
}

/** `/ip4/192.0.2.1/tcp/4001/p2p/…` as host and port; undefined for what is not plain TCP. */
export function tcpAddress(multiaddr: string): TcpAddress | undefined {
  const [, family, host, transport, port] = multiaddr.split("/");
  const isHost = family !== undefined && ["ip4", "ip6", "dns", "dns4", "dns6"].includes(family);
  if (!isHost || !host || transport !== "tcp" || !/^\d{1,5}$/.test(port ?? "")) return undefined;
  return { host, port: Number(port) };
}
