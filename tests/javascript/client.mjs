// The client of the JavaScript library: `node client.mjs SERVER-URL`.

import { ServiceError, Svcm } from "@nats-io/services";
import { connect, headers } from "@nats-io/transport-node";
import { answerCalls } from "./calls.mjs";

const TIMEOUT = 30_000;

const connection = await connect({ servers: process.argv[2] });
const services = new Svcm(connection).client();

async function all(answers) {
  const gathered = [];
  for await (const answer of await answers) {
    gathered.push(answer);
  }
  return gathered;
}

function shown(reply) {
  const error = ServiceError.toServiceError(reply);
  return {
    data: reply.string(),
    headers: Object.fromEntries(reply.headers ?? []),
    error: error && { code: error.code, message: error.message },
  };
}

await answerCalls({
  ping: (name, id) => all(services.ping(name, id)),
  info: (name, id) => all(services.info(name, id)),
  stats: (name, id) => all(services.stats(name, id)),

  request: async (subject, data, sent) => {
    const block = headers();
    for (const [name, value] of sent ?? []) {
      block.append(name, value);
    }
    return shown(await connection.request(subject, data, { timeout: TIMEOUT, headers: block }));
  },

  // Until an empty message comes.
  requestMany: async (subject, data) => {
    const replies = connection.requestMany(subject, data, { strategy: "sentinel", maxWait: TIMEOUT });
    return (await all(replies)).map(shown);
  },
});
await connection.drain();
