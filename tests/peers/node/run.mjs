// Runs one scenario of one client against one server, in RESP2 or RESP3.
//
//     node run.mjs ioredis transaction 6379 3
//
// Exits 0 if every assertion of the scenario holds. A scenario that needs the
// server killed and started again prints `restart` and goes on by itself.

const [client, scenario, port, protocol] = process.argv.slice(2);
const { scenarios } = await import(`./${client}.mjs`);
if (!scenarios[scenario]) throw new Error(`${client} has no scenario ${scenario}`);
const server = { port: Number(port), protocol: Number(protocol) };
await scenarios[scenario](server, () => console.log("restart"));
process.exit(0);
