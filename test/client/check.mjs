/*
 * Iterable's own client, unchanged, talks to the emulator: what it accepts as
 * an answer of Iterable's API, by its own schemas, the emulator must give.
 *
 * usage: node check.mjs http://127.0.0.1:PORT
 */
import assert from "node:assert/strict";
import { IterableClient } from "@iterable/api";

const baseUrl = process.argv[2];
const client = new IterableClient({ apiKey: "test-key", baseUrl, timeout: 10000 });
let passed = 0;
let failed = 0;

async function control(what, body = {}) {
  const answer = await fetch(`${baseUrl}/control/${what}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

async function check(name, test) {
  try {
    await control("reset", { defaults: true, usersRate: 0, eventsRate: 0, otherRates: false });
    await test();
    passed++;
    console.log(`ok - ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok - ${name}\n${error.stack ?? error}`);
  }
}

/* the error that the client makes of an answer */
async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("was not refused");
}

await check("updateUser and getUserByEmail", async () => {
  const answer = await client.updateUser({
    email: "Jane+doe@example.com",
    userId: "user/123",
    dataFields: { firstName: "Jane", signupAt: "2024-11-25 13:37:19 +00:00", big: 1234567890123 },
  });
  assert.equal(answer.code, "Success");
  const { user } = await client.getUserByEmail({ email: "jane+DOE@example.com" });
  assert.equal(user.email, "jane+doe@example.com");
  assert.equal(user.userId, "user/123");
  assert.equal(user.dataFields.firstName, "Jane");
  assert.equal(user.dataFields.big, 1234567890123);
  assert.equal(user.dataFields.signupAt, "2024-11-25 13:37:19 +00:00");
});

await check("getUserByUserId, with a slash in it", async () => {
  await client.updateUser({ userId: "user/123", preferUserId: true });
  const { user } = await client.getUserByUserId({ userId: "user/123" });
  assert.match(user.email, /@placeholder\.email$/);
});

await check("getUserByEmail of nobody", async () => {
  assert.equal((await client.getUserByEmail({ email: "nobody@example.com" })).user, undefined);
});

await check("bulkUpdateUsers", async () => {
  const answer = await client.bulkUpdateUsers({
    users: [
      { email: "a@example.com", dataFields: { plan: "pro" } },
      { email: "malformed", dataFields: { plan: "free" } },
      { userId: "unknown" },
    ],
  });
  assert.equal(answer.successCount, 1);
  assert.equal(answer.failCount, 2);
  assert.deepEqual(answer.createdFields, ["plan"]);
  assert.deepEqual(answer.failedUpdates.invalidEmails, ["malformed"]);
  const { user } = await client.getUserByEmail({ email: "a@example.com" });
  assert.equal(user.dataFields.plan, "pro");
});

await check("bulkUpdateUsers of a thousand", async () => {
  const users = Array.from({ length: 1000 }, (_, i) => ({
    email: `user${i}@example.com`,
    dataFields: { number: i, even: i % 2 === 0, tags: ["a", "b"], address: { city: "Berlin" } },
  }));
  assert.equal((await client.bulkUpdateUsers({ users })).successCount, 1000);
});

await check("trackEvent", async () => {
  await client.updateUser({ email: "a@example.com" });
  const answer = await client.trackEvent({
    email: "a@example.com",
    eventName: "purchase",
    id: "order-1",
    createdAt: 1598631966,
    dataFields: { total: 9.5 },
  });
  assert.equal(answer.code, "Success");
  assert.equal(answer.params.id, "order-1");
});

await check("trackBulkEvents and getUserEventsByEmail", async () => {
  await client.updateUser({ email: "a@example.com", userId: "ua" });
  const answer = await client.trackBulkEvents({
    events: [
      { email: "a@example.com", eventName: "first", id: "1", createdAt: 1598631966 },
      { email: "a@example.com", eventName: "second", id: "2", createdAt: 1598631967, dataFields: { n: 1 } },
      { email: "nobody@example.com", eventName: "third" },
    ],
  });
  assert.equal(answer.successCount, 2);
  assert.equal(answer.failCount, 1);
  const { events } = await client.getUserEventsByEmail({ email: "a@example.com", limit: 10 });
  assert.deepEqual(events.map((event) => event.eventName), ["second", "first"]);
  assert.equal(events[0].dataFields.n, 1);
  const byUserId = await client.getUserEventsByUserId({ userId: "ua" });
  assert.equal(byUserId.events.length, 2);
});

await check("getUserFields", async () => {
  await client.updateUser({ email: "a@example.com", dataFields: { n: 1, x: 1.5, when: "2020-01-02", ok: true } });
  const { fields } = await client.getUserFields();
  assert.deepEqual(
    [fields.email, fields.n, fields.x, fields.when, fields.ok],
    ["string", "long", "double", "date", "boolean"]
  );
});

await check("deleteUserByEmail and deleteUserByUserId", async () => {
  await client.updateUser({ email: "a@example.com", userId: "ua" });
  assert.equal((await client.deleteUserByEmail({ email: "a@example.com" })).code, "Success");
  assert.equal((await client.getUserByEmail({ email: "a@example.com" })).user, undefined);
  await client.updateUser({ email: "b@example.com", userId: "ub" });
  assert.equal((await client.deleteUserByUserId({ userId: "ub" })).code, "Success");
  assert.equal((await refused(client.deleteUserByUserId({ userId: "ub" }))).statusCode, 400);
});

await check("a wrong key", async () => {
  const stranger = new IterableClient({ apiKey: "wrong", baseUrl });
  const error = await refused(stranger.getUserFields());
  stranger.destroy();
  assert.equal(error.statusCode, 401);
  assert.equal(error.code, "BadApiKey");
});

await check("a value of the wrong type", async () => {
  await client.updateUser({ email: "a@example.com", dataFields: { n: 1 } });
  const error = await refused(client.updateUser({ email: "a@example.com", dataFields: { n: "one" } }));
  assert.equal(error.statusCode, 400);
  assert.equal(error.code, "RequestFieldsTypesMismatched");
});

await check("too many requests", async () => {
  await control("config", { usersRate: 1 });
  const users = [{ email: "a@example.com" }];
  await client.bulkUpdateUsers({ users });
  const error = await refused(client.bulkUpdateUsers({ users }));
  assert.equal(error.statusCode, 429);
  assert.equal(error.code, "RateLimitExceeded");
});

client.destroy();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
