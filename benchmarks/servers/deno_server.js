// An echo server on Deno.serve and Deno.upgradeWebSocket, for bench.py.
//
//     deno run --allow-net --allow-read deno_server.js PORT [--broadcast] [--cert FILE --key FILE]        PORT 0: any free port
//
// Text comes as a string, binary as an ArrayBuffer. With --broadcast each message goes to every connection, one after
// another; nothing limits what waits for one that does not read. There is no compression.
const options = Deno.args;
const broadcast = options.includes("--broadcast");
const file = (name) => options.includes(name) ? Deno.readTextFileSync(options[options.indexOf(name) + 1]) : undefined;
const sockets = new Set();

Deno.serve(
  {
    hostname: "127.0.0.1",
    port: Number(options[0]),
    cert: file("--cert"),
    key: file("--key"),
    onListen: ({ port }) => console.log(`listening 127.0.0.1:${port}`),
  },
  (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    socket.binaryType = "arraybuffer";
    if (broadcast) {
      socket.onopen = () => sockets.add(socket);
      socket.onclose = () => sockets.delete(socket);
      socket.onmessage = ({ data }) => {
        for (const each of sockets) if (each.readyState === WebSocket.OPEN) each.send(data);
      };
    } else {
      socket.onmessage = ({ data }) => socket.send(data);
    }
    socket.onerror = () => {}; // a peer that resets is no reason to end
    return response;
  },
);
