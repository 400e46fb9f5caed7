// How the programs of this directory are driven: each line of stdin is a call, each line of stdout what came of it. A
// program ends with its stdin, which the operating system closes also when the tests are killed.

import { createInterface } from "node:readline";

/**
 * Answers calls, one after the other, until there are no more.
 *
 * @param {Record<string, (...given: any[]) => Promise<unknown>>} functions What can be called, by name.
 */
export async function answerCalls(functions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, given } = JSON.parse(line);
    let outcome;
    try {
      outcome = { result: await functions[call](...given) };
    } catch (error) {
      outcome = { error: { name: error.name, message: error.message } };
    }
    process.stdout.write(`${JSON.stringify(outcome)}\n`);
  }
}
