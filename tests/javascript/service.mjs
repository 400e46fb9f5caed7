// Services made with the JavaScript library, as its users write them: `node service.mjs SERVER-URL`.

import { ServiceError, Svcm } from "@nats-io/services";
import { connect, Empty } from "@nats-io/transport-node";
import { answerCalls } from "./calls.mjs";

const connection = await connect({ servers: process.argv[2] });
const services = new Svcm(connection);
const running = new Map();

/** Starts an instance whose endpoints are at `NAME.*`, and returns its id. */
async function start(name) {
  const service = await services.add({
    name,
    version: "2.3.4",
    description: "Echoes, counts and fails",
    metadata: { language: "JavaScript" },
    statsHandler: (endpoint) => Promise.resolve({ subject: endpoint.subject, tags: ["a", "ü"] }),
  });
  const group = service.addGroup(name);

  group.addEndpoint("echo", {
    metadata: { schema: "any" },
    handler: (_error, message) => message.respond(message.data, { headers: message.headers }),
  });

  // Without a handler, an endpoint is an iterator over its requests.
  const upper = group.addEndpoint("upper", { queue: "upper-workers" });
  (async () => {
    for await (const message of upper) {
      message.respond(message.string().toUpperCase());
    }
  })();

  group.addEndpoint("count", (_error, message) => {
    for (let number = 1; number <= Number(message.string()); number += 1) {
      message.respond(`${number}`);
    }
    message.respond(Empty);
  });

  group.addEndpoint("fail", () => {
    throw new ServiceError(422, "not today");
  });

  group.addEndpoint("break", () => {
    throw new Error("an unexpected state");
  });

  group.addEndpoint("refuse", (_error, message) => {
    message.respondError(404, "no such user", "more about it");
  });

  running.set(service.id, service);
  await connection.flush();
  return service.id;
}

async function stop(id) {
  await running.get(id).stop();
  running.delete(id);
}

await answerCalls({ start, stop });
await connection.drain();
