// Live relay on Bun and its own WebSocket server (uWebSockets).
const { Relay } = require("./relay.cjs");

const relay = new Relay();
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    if (!server.upgrade(request, { data: {} })) return new Response("a WebSocket is served here", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    message: (socket, data) => relay.receive(socket, socket.data, data),
    close: (socket) => relay.leave(socket, socket.data),
  },
});
