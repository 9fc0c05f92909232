import type { ConnectionEncrypter, MessageStream } from "@libp2p/interface";

/**
 * An encrypter whose every message leaves in one write. js-libp2p hands a socket each piece of a message by itself: the
 * length, the header, the body, the tag. Without Nagle's delay each is a system call, a packet, and a read at the other end.
 */
export function withWholeWrites<Components>(
  make: (components: Components) => ConnectionEncrypter,
): (components: Components) => ConnectionEncrypter {
  return (components) => {
    const encrypter = make(components);
    const { secureOutbound, secureInbound } = encrypter;
    encrypter.secureOutbound = (connection, options) => secureOutbound.call(encrypter, whole(connection), options);
    encrypter.secureInbound = (connection, options) => secureInbound.call(encrypter, whole(connection), options);
    return encrypter;
  };
}

function whole(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  // At most 64 KiB are copied: far cheaper than a system call.
  connection.send = (data) => send(data instanceof Uint8Array ? data : data.subarray());
  return connection;
}
