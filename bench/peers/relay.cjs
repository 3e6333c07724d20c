// The seed protocol for any JavaScript server: one Relay for all, one state object per socket.
const crypto = require("crypto");

const ED25519_PREFIX = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410: DER before the 32 bytes

function isSigned(challenge, token, attempt) {
  const der = Buffer.concat([ED25519_PREFIX, Buffer.from(token, "hex")]);
  const key = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
  return crypto.verify(null, challenge, key, Buffer.from(attempt, "hex"));
}

class Relay {
  sessions = new Map();

  receive(socket, state, data) {
    const { payload } = JSON.parse(data);
    if (state.isAuthenticated) {
      const delivery = JSON.stringify({ type: "text", payload: { from: state.token, text: payload.text } });
      for (const recipient of this.sessions.get(payload.to)) recipient.send(delivery);
    } else if (state.challenge === undefined) {
      state.token = payload.token;
      state.challenge = crypto.randomBytes(32);
      socket.send(JSON.stringify({ type: "auth_challenge", challenge: state.challenge.toString("hex") }));
    } else if (isSigned(state.challenge, state.token, payload.attempt)) {
      state.isAuthenticated = true;
      if (!this.sessions.has(state.token)) this.sessions.set(state.token, new Set());
      this.sessions.get(state.token).add(socket);
      socket.send('{"type":"auth_ok"}');
    } else {
      socket.close();
    }
  }

  leave(socket, state) {
    this.sessions.get(state.token)?.delete(socket);
  }
}

exports.Relay = Relay;
