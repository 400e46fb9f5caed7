// A script that asks once: `node script.mjs SERVER-URL`. Those in Python are in script.py.

import { connect } from "@nats-io/transport-node";

const connection = await connect({ servers: process.argv[2] });
const answer = await connection.request("benchmark.script", "question");
if (answer.string() !== "question") {
  throw new Error(`a wrong answer: ${answer.string()}`);
}
await connection.close();
