// Orders a landscape from an onnxscape server and waits for it:
//
//   node landscape.js MODEL.onnx [--server HOST:PORT] [--data NAME] [--grid N] [--out FILE.json]
//
// Knows the server by its .proto files only; no code is generated. A token is taken from
// ONNXSCAPE_TOKEN, a certificate authority's file from ONNXSCAPE_TLS_CA.

import { createHash, randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";

const PROTO = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "proto");
const CHUNK = 1 << 20; // bytes of a message; the server takes up to 2 MiB
const FINAL = new Set(["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"]);
const PASSING = new Set([grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED]);

/** Reads the .proto files and returns the package `onnxscape.v1`. */
function loadPackage() {
  const files = ["blobs", "catalog", "jobs"].map((name) => `onnxscape/v1/${name}.proto`);
  const definition = protoLoader.loadSync(files, {
    includeDirs: [PROTO],
    keepCase: true,
    longs: Number, // sizes and revisions; none of them comes near 2^53
    enums: String,
    defaults: true,
    oneofs: true,
  });
  return grpc.loadPackageDefinition(definition).onnxscape.v1;
}

/** A connection to a server: its services, and calls as promises. */
class Server {
  constructor(address) {
    const ca = process.env.ONNXSCAPE_TLS_CA;
    const token = process.env.ONNXSCAPE_TOKEN;
    const credentials = ca
      ? grpc.credentials.createSsl(readFileSync(ca))
      : grpc.credentials.createInsecure();
    this.metadata = new grpc.Metadata();
    if (token) this.metadata.set("authorization", `Bearer ${token}`);
    const { BlobService, CatalogService, JobService } = loadPackage();
    this.blobs = new BlobService(address, credentials);
    this.catalog = new CatalogService(address, credentials);
    this.jobs = new JobService(address, credentials);
  }

  close() {
    for (const client of [this.blobs, this.catalog, this.jobs]) client.close();
  }

  /** Makes a call of one message; again, with growing pauses, where the server is away. */
  async call(client, method, request) {
    for (let pause = 500; ; pause *= 2) {
      try {
        return await new Promise((resolve, reject) => {
          const options = { deadline: Date.now() + 60_000 };
          client[method](request, this.metadata, options, (error, response) =>
            error ? reject(error) : resolve(response),
          );
        });
      } catch (error) {
        if (!PASSING.has(error.code) || pause > 10_000) throw error;
        await sleep(pause);
      }
    }
  }

  /** Writes a blob unless the server has it from us, from where an earlier try has ended. */
  async upload(bytes) {
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const digest = { sha256, size: bytes.length };
    const { missing } = await this.call(this.blobs, "FindMissingBlobs", { digests: [digest] });
    if (missing.length === 0) return digest;
    const status = await this.call(this.blobs, "QueryWriteStatus", { digest });
    await new Promise((resolve, reject) => {
      const stream = this.blobs.WriteBlob(this.metadata, (error) =>
        error ? reject(error) : resolve(),
      );
      this.#send(stream, digest, bytes, status.committed_size).catch(reject);
    });
    return digest;
  }

  async #send(stream, digest, bytes, start) {
    let ended = false;
    stream.once("error", () => (ended = true));
    for (let offset = start; !ended && offset < bytes.length; offset += CHUNK) {
      const data = bytes.subarray(offset, offset + CHUNK);
      const more = stream.write({ digest, offset, data });
      if (!more) await Promise.race([once(stream, "drain"), once(stream, "error")]);
    }
    stream.end();
  }

  /** Yields what happens to a job until it is finished; goes on where a stream broke off. */
  async *watch(name) {
    let revision = 0;
    let state = "";
    for (let pause = 500; !FINAL.has(state); ) {
      const request = { name, after_revision: revision };
      const stream = this.jobs.WatchJob(request, this.metadata);
      try {
        for await (const response of stream) {
          pause = 500;
          if (response.event === "heartbeat") continue;
          // Not set where points follow that came before the job's last change.
          revision = response.revision || revision;
          if (response.event === "job") state = response.job.state;
          yield response;
        }
      } catch (error) {
        if (!PASSING.has(error.code) || pause > 30_000) throw error;
        await sleep(pause);
        pause *= 2;
      } finally {
        stream.cancel();
      }
    }
  }

  /** Reads a job's surfaces: name of the metric to its values, in C order. */
  async readSurface(name) {
    const surfaces = {};
    let header;
    const request = { name, format: "SURFACE_FORMAT_ARRAYS" };
    for await (const response of this.jobs.ReadSurface(request, this.metadata)) {
      if (response.part === "header") {
        header = response.header;
        const size = header.shape.reduce((product, length) => product * length, 1);
        for (const metric of header.metrics) surfaces[metric] = new Float64Array(size);
      } else {
        surfaces[response.piece.metric].set(response.piece.values, response.piece.offset);
      }
    }
    return { header, surfaces };
  }
}

/** Uploads a model, orders its landscape, waits, and returns the surfaces. */
async function landscape(server, path, { data, grid }) {
  const blob = await server.upload(readFileSync(path));
  const display_name = basename(path, ".onnx");
  const { model } = await server.call(server.catalog, "CreateModel", { blob, display_name });
  console.log(`${model.name}: ${model.moved_count} of ${model.parameter_count} values move`);

  const axis = { start: -1, stop: 1, num: grid };
  const spec = { model: model.name, data: `dataSets/${data}`, grid: { x: axis, y: axis } };
  // The same request_id again, after a broken connection, is answered with the same job.
  const order = { spec, display_name, request_id: randomUUID() };
  const { job } = await server.call(server.jobs, "CreateJob", order);
  console.log(`${job.name}: ${job.point_total} points${job.shared ? ", ordered before" : ""}`);

  let last = job;
  let seen = 0;
  for await (const response of server.watch(job.name)) {
    if (response.event === "job") last = response.job;
    else seen += response.points.points.length;
    process.stderr.write(`\r${seen}/${last.point_total} points  ${last.state}   `);
  }
  process.stderr.write("\n");
  if (last.state !== "JOB_STATE_SUCCEEDED") {
    const { reason, message } = last.error ?? { reason: last.state, message: "" };
    throw new Error(`${job.name}: ${reason}: ${message}`);
  }
  return { job: job.name, seen, ...(await server.readSurface(job.name)) };
}

/** Reduces finite values; NaN where there are none. */
function extreme(values, better) {
  return values.filter(Number.isFinite).reduce((a, b) => (better(b, a) ? b : a), NaN);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      server: { type: "string", default: "127.0.0.1:50051" },
      data: { type: "string", default: "digits" },
      grid: { type: "string", default: "9" },
      out: { type: "string" },
    },
  });
  if (positionals.length !== 1) throw new Error("expected one MODEL.onnx");
  const server = new Server(values.server);
  try {
    const options = { data: values.data, grid: Number(values.grid) };
    const { header, surfaces, ...rest } = await landscape(server, positionals[0], options);
    const { loss } = surfaces;
    console.log(`shape ${header.shape.join(" x ")}, complete: ${header.complete}`);
    console.log(`center loss ${header.center.loss}`);
    console.log(`loss from ${extreme(loss, (b, a) => !(b >= a))} to ${extreme(loss, (b, a) => !(b <= a))}`);
    if (values.out) {
      const numbers = Object.entries(surfaces).map(([name, array]) => [name, [...array]]);
      const text = JSON.stringify({ ...rest, ...header, surfaces: Object.fromEntries(numbers) });
      writeFileSync(values.out, text);
    }
  } finally {
    server.close();
  }
}

try {
  await main();
} catch (error) {
  console.error(error.details || error.message);
  process.exitCode = 1;
}
