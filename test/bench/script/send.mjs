/*
 * What one would write without iterable_sync: every row that has changed since
 * the last look, by a column of its time, in batches of a thousand, by
 * Iterable's own client.
 *
 * usage: node send.mjs SOCKET-DIRECTORY DATABASE URL TABLE LANES once|poll
 *   once: all rows, then it ends; poll: looks again each second, until killed
 */
import pg from "pg";
import Cursor from "pg-cursor";
import { IterableClient } from "@iterable/api";

const [host, database, baseUrl, table, lanes, how] = process.argv.slice(2);
const db = new pg.Client({ host, database, user: "postgres" });
const iterable = new IterableClient({ apiKey: "bench-key", baseUrl, timeout: 30000 });
let since = new Date(0);

const toUser = (row) => ({
  email: row.email,
  dataFields: {
    first_name: row.first_name,
    last_name: row.last_name,
    street: row.street,
    created: row.created_at,
    updated_at: row.updated_at,
    balance: Number(row.balance),
    active: row.active,
    plan: row.plan,
    country: row.country,
  },
});

async function send(rows) {
  const answer = await iterable.bulkUpdateUsers({ users: rows.map(toUser) });
  if (answer.failCount > 0) throw new Error(`${answer.failCount} rows failed`);
}

async function look() {
  const cursor = db.query(new Cursor(`SELECT * FROM ${table} WHERE updated_at > $1 ORDER BY updated_at`, [since]));
  const underWay = new Set();
  for (let rows = await cursor.read(1000); rows.length > 0; rows = await cursor.read(1000)) {
    since = rows[rows.length - 1].updated_at;
    if (underWay.size >= Number(lanes)) await Promise.race(underWay);
    const request = send(rows).finally(() => underWay.delete(request));
    underWay.add(request);
  }
  await Promise.all(underWay);
  await cursor.close();
}

await db.connect();
await look();
while (how === "poll") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await look();
}
const { user, system } = process.cpuUsage();
console.log(((user + system) / 1e6).toFixed(3));
await db.end();
