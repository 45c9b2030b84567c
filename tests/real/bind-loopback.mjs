// Preloaded (`node --import`) into the reference server, which otherwise listens
// on every interface: keep it on 127.0.0.1. Nothing else about it is changed.
import net from "node:net";

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  const named = typeof rest[0] === "string";
  const plainPort = typeof port === "number" || typeof port === "string";
  return plainPort && !named
    ? listen.call(this, Number(port), "127.0.0.1", ...rest)
    : listen.call(this, port, ...rest);
};
