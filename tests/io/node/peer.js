// A client or a server of the npm package `ws`, as test_node.py tells it to be.
//   node peer.js connect   takes URL, subprotocols and steps as JSON, and says what it saw as JSON
//   node peer.js serve     says its port, then each thing it sees, a line of JSON each
// DEFLATE in its environment is its perMessageDeflate, as JSON.
"use strict";
const { WebSocket, WebSocketServer } = require("ws");

// Without it a client offers compression, and a server takes none.
const deflate = process.env.DEFLATE ? { perMessageDeflate: JSON.parse(process.env.DEFLATE) } : {};
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const shown = (data, isBinary) =>
  isBinary ? { binary: data.toString("base64") } : { text: data.toString() };

// Fragments are text, or binary as base64 in an object.
function sendFragments(ws, fragments) {
  fragments.forEach((fragment, i) => {
    const binary = typeof fragment !== "string";
    const data = binary ? Buffer.from(fragment.binary, "base64") : fragment;
    ws.send(data, { binary, fin: i === fragments.length - 1, compress: Boolean(process.env.DEFLATE) });
  });
}

async function connect(url, subprotocols, steps) {
  const ws = new WebSocket(url, subprotocols, deflate);
  const seen = [];
  const waiting = { message: [], pong: [], ping: [], close: [] };
  const come = { message: [], pong: [], ping: [], close: [] };
  const note = (kind, value) => {
    const waiter = waiting[kind].shift();
    if (waiter) waiter(value);
    else come[kind].push(value);
  };
  const next = (kind) =>
    come[kind].length ? come[kind].shift() : new Promise((resolve) => waiting[kind].push(resolve));
  ws.on("message", (data, isBinary) => note("message", shown(data, isBinary)));
  ws.on("pong", (data) => note("pong", { pong: data.toString() }));
  ws.on("ping", (data) => note("ping", { ping: data.toString() }));
  ws.on("close", (code, reason) => note("close", { close: [code, reason.toString()] }));
  await new Promise((resolve, reject) => ws.on("open", resolve).on("error", reject));
  seen.push({ protocol: ws.protocol, extensions: ws.extensions });
  for (const [what, value] of steps) {
    if (what === "text") ws.send(value);
    else if (what === "binary") ws.send(Buffer.from(value, "base64"));
    else if (what === "fragments") sendFragments(ws, value);
    else if (what === "ping") ws.ping(value);
    else if (what === "close") ws.close(...value);
    else if (what === "wait") seen.push(await next(value));
    else throw new Error(`unknown step ${what}`);
  }
  say(seen);
  await new Promise((resolve) => (ws.readyState === WebSocket.CLOSED ? resolve() : ws.on("close", resolve).close()));
}

function serve() {
  const choose = (offered) => (offered.has("b") ? "b" : false);
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: choose, ...deflate }, () =>
    say({ port: server.address().port })
  );
  server.on("connection", (ws) => {
    ws.on("error", (error) => say({ error: error.message }));
    ws.on("ping", (data) => say({ ping: data.toString() }));
    ws.on("pong", (data) => ws.send(`pong came: ${data}`));
    ws.on("close", (code, reason) => say({ close: [code, reason.toString()] }));
    ws.on("message", (data, isBinary) => {
      if (isBinary) ws.send(data);
      else if (data.toString() === "ping me") ws.ping("ours");
      else if (data.toString() === "close me") ws.close(4001, "as you wish, é");
      else if (data.toString() === "fragments") {
        sendFragments(ws, ["one, ", "", "é一", "😀"]);
        sendFragments(ws, [{ binary: "AA==" }, { binary: Buffer.alloc(70000, 255).toString("base64") }]);
      } else ws.send(data.toString());
    });
  });
}

if (process.argv[2] === "serve") serve();
else
  connect(...JSON.parse(require("fs").readFileSync(0))).catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  });
