// The calling side of the JavaScript library: `node caller.mjs SERVER-URL SECONDS`. It does and prints what callers.py
// does.

import { connect } from "@nats-io/transport-node";

const SUBJECT = "benchmark.echo";
const DATA = "0123456789abcdef";
const TASKS = 64;
const WARM_UP = 0.3; // seconds
const TIMEOUT = 10_000; // milliseconds

process.stdin.on("end", () => process.exit(1)).resume();

const [url, seconds] = [process.argv[2], Number(process.argv[3])];
const connection = await connect({ servers: url });

/** Asks one time after the other until the clock says so, and returns the milliseconds that each time took. */
async function ask(end) {
  const times = [];
  let before = performance.now();
  while (before < end) {
    const answer = await connection.request(SUBJECT, DATA, { timeout: TIMEOUT });
    if (answer.string() !== DATA) {
      throw new Error(`a wrong answer: ${answer.string()}`);
    }
    const after = performance.now();
    times.push(after - before);
    before = after;
  }
  return times;
}

await ask(performance.now() + WARM_UP * 1000);
const times = await ask(performance.now() + (seconds * 1000) / 2);

const cpu = process.cpuUsage();
const begun = performance.now();
const end = begun + (seconds * 1000) / 2;
const answered = (await Promise.all(Array.from({ length: TASKS }, () => ask(end)))).flat().length;
const taken = performance.now() - begun;
const used = process.cpuUsage(cpu);

console.log(
  JSON.stringify({
    times: times.map((milliseconds) => milliseconds / 1000),
    answered,
    seconds: taken / 1000,
    cpu: (used.user + used.system) / 1e6,
  }),
);
process.stdin.destroy();
await connection.close();
