// The service of the JavaScript library: `node service.mjs SERVER-URL ENDPOINTS`. Subjects and handlers are those of
// services/, and it ends with its stdin as well.

import { setTimeout as sleep } from "node:timers/promises";
import { Svcm } from "@nats-io/services";
import { connect, headers } from "@nats-io/transport-node";

const WAITING = 10; // milliseconds

process.stdin.on("end", () => process.exit(1)).resume();

const [url, count] = process.argv.slice(2);
const connection = await connect({ servers: url });
const begun = performance.now();
const service = await new Svcm(connection).add({ name: "benchmark", version: "1.0.0" });

const echo = (_error, message) => message.respond(message.data);

if (count === "1") {
  service.addEndpoint("echo", { subject: "benchmark.echo", handler: echo });
  service.addEndpoint("headers", {
    subject: "benchmark.headers",
    handler: (_error, message) => {
      const answer = headers();
      answer.set("Trace", message.headers.get("Trace"));
      message.respond(message.data, { headers: answer });
    },
  });
  service.addEndpoint("wait", {
    subject: "benchmark.wait",
    handler: async (_error, message) => {
      await sleep(WAITING);
      message.respond(message.data);
    },
  });
} else {
  for (let number = 0; number < Number(count); number += 1) {
    const digits = String(number).padStart(4, "0");
    service.addEndpoint(`echo-${digits}`, { subject: `benchmark.echo.${digits}`, handler: echo });
  }
}
await connection.flush();
console.log(`ready ${(performance.now() - begun) / 1000}`);
