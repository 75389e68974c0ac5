// The AWS SDK for JavaScript, told where to go by the environment alone.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import {
  CreateIndexCommand,
  CreateVectorBucketCommand,
  DeleteIndexCommand,
  DeleteVectorBucketCommand,
  DeleteVectorsCommand,
  GetIndexCommand,
  GetVectorsCommand,
  ListTagsForResourceCommand,
  NotFoundException,
  PutVectorsCommand,
  QueryVectorsCommand,
  S3VectorsClient,
  TagResourceCommand,
  UntagResourceCommand,
  ValidationException,
  paginateListVectors,
} from "@aws-sdk/client-s3vectors";

const client = new S3VectorsClient({});
const vectorBucketName = `node-${randomUUID()}`;
const named = { vectorBucketName, indexName: "films" };
const send = (Command, input) => client.send(new Command(input));
let arn;

before(async () => {
  await send(CreateVectorBucketCommand, { vectorBucketName });
  const made = await send(CreateIndexCommand, {
    ...named,
    dataType: "float32",
    dimension: 2,
    distanceMetric: "euclidean",
  });
  arn = made.indexArn;
  const vectors = Array.from({ length: 9 }, (_, n) => ({
    key: `key ${n} é`,
    data: { float32: [n, 0] },
    metadata: { n, even: n % 2 === 0, words: ["a", `b${n}`] },
  }));
  await send(PutVectorsCommand, { ...named, vectors });
});

after(async () => {
  await send(DeleteIndexCommand, named);
  await send(DeleteVectorBucketCommand, { vectorBucketName });
  client.destroy();
});

test("an index is described by its ARN, with the time it was made", async () => {
  const { index } = await send(GetIndexCommand, { indexArn: arn });
  assert.equal(index.dimension, 2);
  assert.ok(index.creationTime instanceof Date);
});

test("the nearest of those that pass a filter come first, with unsquared distances", async () => {
  const found = await send(QueryVectorsCommand, {
    ...named,
    topK: 2,
    queryVector: { float32: [0, 0] },
    filter: { $and: [{ n: { $gt: 2 } }, { even: true }] },
    returnDistance: true,
    returnMetadata: true,
  });
  assert.deepEqual(
    found.vectors.map((vector) => [vector.key, vector.distance, vector.metadata.words[1]]),
    [["key 4 é", 4, "b4"], ["key 6 é", 6, "b6"]],
  );
});

test("a paginator lists every vector once", async () => {
  const keys = [];
  for await (const page of paginateListVectors({ client, pageSize: 2 }, named)) {
    keys.push(...page.vectors.map((vector) => vector.key));
  }
  assert.equal(keys.length, new Set(keys).size);
  assert.equal(keys.length, 9);
});

test("tags are read, added and removed by the ARN in the path", async () => {
  await send(TagResourceCommand, { resourceArn: arn, tags: { team: "search", "a/b": "é =+" } });
  await send(UntagResourceCommand, { resourceArn: arn, tagKeys: ["team"] });
  const { tags } = await send(ListTagsForResourceCommand, { resourceArn: arn });
  assert.deepEqual(tags, { "a/b": "é =+" });
});

test("deleted vectors are gone", async () => {
  const vectors = [{ key: "gone", data: { float32: [1, 1] } }];
  await send(PutVectorsCommand, { ...named, vectors });
  await send(DeleteVectorsCommand, { ...named, keys: ["gone"] });
  const got = await send(GetVectorsCommand, { ...named, keys: ["gone"] });
  assert.deepEqual(got.vectors, []);
});

test("errors are of the classes of the SDK", async () => {
  await assert.rejects(send(GetIndexCommand, { ...named, indexName: "not-there" }), NotFoundException);
  const wrong = { ...named, vectors: [{ key: "wrong", data: { float32: [1] } }] };
  await assert.rejects(send(PutVectorsCommand, wrong), ValidationException);
});

test("a number that is not finite is refused", async () => {
  for (const number of [NaN, Infinity, -Infinity]) {
    const wrong = { ...named, vectors: [{ key: "wrong", data: { float32: [number, 0] } }] };
    await assert.rejects(send(PutVectorsCommand, wrong), ValidationException);
  }
});
