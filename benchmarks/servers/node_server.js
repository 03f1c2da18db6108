// An echo server on ws, with bufferutil, for bench.py.
//
//     node node_server.js PORT [--mode str] [--broadcast] [--deflate] [--cert FILE --key FILE]        PORT 0: any free port
//
// Text comes as a validated Buffer; with `--mode str` it is made a string first. With --broadcast each message goes to
// every connection, one after another; nothing limits what waits for one that does not read. With --deflate compression
// is as `perMessageDeflate: true` does it, for messages of 1 KiB or more.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { parseArgs } = require("node:util");
const { WebSocketServer } = require("ws");
require("bufferutil"); // ws uses it when it is there; without it this would not be the fastest ws

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mode: { type: "string", default: "binary" },
    broadcast: { type: "boolean" },
    deflate: { type: "boolean", default: false },
    cert: { type: "string" },
    key: { type: "string" },
  },
});

const server = options.cert
  ? https.createServer({ cert: fs.readFileSync(options.cert), key: fs.readFileSync(options.key) })
  : http.createServer();
const sockets = new WebSocketServer({
  server,
  perMessageDeflate: options.deflate,
  maxPayload: 32 * 1024 * 1024,
});
const asString = options.mode === "str";

sockets.on("connection", (socket) => {
  socket.on("error", () => {}); // a peer that resets is no reason to end
  socket.on("message", (data, binary) => {
    const message = asString && !binary ? data.toString() : data;
    if (!options.broadcast) socket.send(message, { binary });
    else for (const each of sockets.clients) each.send(message, { binary });
  });
});

server.listen({ port: Number(positionals[0]), host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening 127.0.0.1:${server.address().port}`);
});
