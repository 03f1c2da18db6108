// An echo server on Bun.serve, for bench.py.
//
//     bun bun_server.js PORT [--broadcast] [--deflate] [--cert FILE --key FILE]        PORT 0: any free port
//
// Text comes as a string, binary as a Buffer. With --broadcast each message goes to every connection, its sender
// included, by a topic; one that does not read misses what comes while 64 KiB wait for it. With --deflate answers are
// compressed, as `perMessageDeflate: true` does it.
const options = process.argv.slice(2);
const broadcast = options.includes("--broadcast");
const deflate = options.includes("--deflate");

const file = (name) => (options.includes(name) ? Bun.file(options[options.indexOf(name) + 1]) : undefined);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(options[0]),
  tls: options.includes("--cert") ? { cert: file("--cert"), key: file("--key") } : undefined,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("WebSocket only", { status: 426 });
  },
  websocket: {
    maxPayloadLength: 32 * 1024 * 1024,
    backpressureLimit: broadcast ? 64 * 1024 : 64 * 1024 * 1024,
    closeOnBackpressureLimit: false,
    idleTimeout: 0,
    sendPings: false,
    perMessageDeflate: deflate,
    open(ws) {
      if (broadcast) ws.subscribe("all");
    },
    message: broadcast
      ? (ws, message) => void server.publish("all", message, deflate)
      : (ws, message) => void ws.send(message, deflate),
  },
});

console.log(`listening 127.0.0.1:${server.port}`);
