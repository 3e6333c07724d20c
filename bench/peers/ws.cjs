// Live relay on node and `ws`.
const { WebSocketServer } = require("ws");
const { Relay } = require("./relay.cjs");

const relay = new Relay();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  backlog: 4096,
  perMessageDeflate: false,
});
server.on("connection", (socket) => {
  const state = {};
  socket.on("message", (data) => relay.receive(socket, state, data));
  socket.on("close", () => relay.leave(socket, state));
});
