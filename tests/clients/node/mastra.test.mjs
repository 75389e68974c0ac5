// Mastra's S3Vectors store: what its own tests ask (they are not in its package), in our words.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";

import {
  CreateVectorBucketCommand,
  DeleteVectorBucketCommand,
  S3VectorsClient,
} from "@aws-sdk/client-s3vectors";
import { S3Vectors } from "@mastra/s3vectors";

const client = new S3VectorsClient({});
const vectorBucketName = `mastra-${randomUUID()}`;
const store = new S3Vectors({
  id: "clients",
  vectorBucketName,
  nonFilterableMetadataKeys: ["content"],
});
const indexName = "my-films";

before(() => client.send(new CreateVectorBucketCommand({ vectorBucketName })));

after(async () => {
  await store.deleteIndex({ indexName });
  await client.send(new DeleteVectorBucketCommand({ vectorBucketName }));
  await store.disconnect();
});

const years = [2019, 2020, 2021, 2022];

beforeEach(async () => {
  await store.deleteIndex({ indexName }).catch(() => {});
  await store.createIndex({ indexName, dimension: 4, metric: "cosine" });
  await store.upsert({
    indexName,
    ids: years.map(String),
    vectors: years.map((_, n) => [1, n / 4, 0, 0]),
    metadata: years.map((year, n) => ({
      year,
      genre: n % 2 ? "comedy" : "drama",
      made: new Date(Date.UTC(year, 0)),
      content: "a text that is not filtered by",
    })),
  });
});

const ask = async (filter, more = {}) => {
  const found = await store.query({
    indexName,
    queryVector: [1, 0, 0, 0],
    topK: 10,
    filter,
    ...more,
  });
  return found.map((answer) => answer.id);
};

test("an index name is made one that the service allows", async () => {
  await store.createIndex({ indexName: "Other_Films", dimension: 4, metric: "cosine" });
  assert.deepEqual((await store.listIndexes()).sort(), [indexName, "other-films"]);
  await store.deleteIndex({ indexName: "Other_Films" });
});

test("making an index again changes nothing", async () => {
  await store.createIndex({ indexName, dimension: 4, metric: "cosine" });
  await store.createIndex({ indexName, dimension: 4, metric: "euclidean" });
  const described = await store.describeIndex({ indexName });
  assert.equal(described.dimension, 4);
  assert.equal(described.metric, "cosine");
  assert.equal(described.count, 4);
});

test("the nearest come first, with vectors and metadata as they were put", async () => {
  const found = await store.query({
    indexName,
    queryVector: [1, 0, 0, 0],
    topK: 2,
    includeVector: true,
  });
  assert.deepEqual(found.map((answer) => answer.id), ["2019", "2020"]);
  assert.ok(found[0].score > found[1].score);
  assert.deepEqual(found[1].vector, [1, 0.25, 0, 0]);
  assert.equal(found[1].metadata.genre, "comedy");
});

const filters = [
  [{ year: 2020 }, ["2020"]],
  [{ year: { $ne: 2020 } }, ["2019", "2021", "2022"]],
  [{ year: { $gt: 2019, $lt: 2022 } }, ["2020", "2021"]],
  [{ year: { $gte: 2021 } }, ["2021", "2022"]],
  [{ year: { $lte: 2020 } }, ["2019", "2020"]],
  [{ genre: { $in: ["comedy", "none"] } }, ["2020", "2022"]],
  [{ genre: { $nin: ["comedy"] } }, ["2019", "2021"]],
  [{ genre: { $exists: true }, nowhere: { $exists: false } }, years.map(String)],
  [{ genre: "drama", year: 2021 }, ["2021"]],
  [{ $or: [{ year: 2019 }, { $and: [{ genre: "comedy" }, { year: { $gt: 2020 } }] }] }, ["2019", "2022"]],
  [{ made: { $gt: new Date(Date.UTC(2020, 6)) } }, ["2021", "2022"]],
];

for (const [filter, expected] of filters) {
  test(`the filter ${JSON.stringify(filter)} is kept`, async () => {
    assert.deepEqual(await ask(filter), expected);
  });
}

test("a record put again is replaced", async () => {
  const metadata = [{ genre: "opera" }];
  await store.upsert({ indexName, ids: ["2019"], vectors: [[0, 0, 0, 1]], metadata });
  assert.deepEqual(await ask({ genre: "opera" }), ["2019"]);
  assert.equal((await store.describeIndex({ indexName })).count, 4);
});

test("one record is updated, or deleted, by its ID", async () => {
  await store.updateVector({ indexName, id: "2019", update: { metadata: { genre: "opera" } } });
  assert.deepEqual(await ask({ genre: "opera" }), ["2019"]);
  await store.deleteVector({ indexName, id: "2019" });
  assert.deepEqual(await ask(undefined), ["2020", "2021", "2022"]);
});

test("a vector of another dimension is refused", async () => {
  await assert.rejects(store.upsert({ indexName, vectors: [[1, 0]], metadata: [{}] }));
  await assert.rejects(store.query({ indexName, queryVector: [1, 0], topK: 1 }));
});

test("an index without records has no answers", async () => {
  await store.deleteIndex({ indexName });
  await store.createIndex({ indexName, dimension: 4, metric: "euclidean" });
  assert.deepEqual(await ask(undefined), []);
});
