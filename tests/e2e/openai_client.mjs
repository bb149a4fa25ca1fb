// The official JavaScript client over every endpoint. Run by test_javascript.py: node --test, with URL and KEY set.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const { CLIENT, BASE, MODEL, EMBEDDER } = process.env;
const { default: OpenAI, NotFoundError, BadRequestError } = createRequire(`${CLIENT}/`)("openai");
const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });

const sum = [{ role: "user", content: "What is 2+2?" }];
const city = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"] };
const strict = { ...city, additionalProperties: false };
const weather = { name: "get_weather", description: "Get the weather of a city.", parameters: strict, strict: true };
const chatTool = { type: "function", function: weather };
const asked = { model: MODEL, messages: sum, temperature: 0, max_completion_tokens: 40 };

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

async function refused(promise, kind, param, code) {
  const error = await promise.then(() => assert.fail("it was answered"), (error) => error);
  assert.ok(error instanceof kind, String(error));
  assert.equal(error.param, param);
  if (code) assert.equal(error.code, code);
  assert.match(error.requestID, /^req_/);
}

test("models are listed and found", async () => {
  const models = await all(client.models.list());
  assert.ok(models.some((model) => model.id.startsWith("smollm2")));
  assert.equal((await client.models.retrieve(MODEL)).object, "model");
  await refused(client.models.retrieve("nothing"), NotFoundError, "model", "model_not_found");
});

test("a chat is answered", async () => {
  const { data: reply, request_id } = await client.chat.completions.create(asked).withResponse();
  assert.match(reply.choices[0].message.content, /4/);
  assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens);
  assert.match(request_id, /^req_/);
});

test("a chat streams the same text, and its usage last", async () => {
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({
    ...asked, stream: true, stream_options: { include_usage: true },
  });
  const chunks = await all(stream);
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(chunks.at(-1).usage, { ...whole.usage, prompt_tokens_details: chunks.at(-1).usage.prompt_tokens_details });
});

test("the stream helper puts a chat together", async () => {
  const reply = await client.chat.completions.stream(asked).finalChatCompletion();
  assert.match(reply.choices[0].message.content, /4/);
});

test("several answers come with log probabilities", async () => {
  const reply = await client.chat.completions.create({
    ...asked, temperature: 1, seed: 1, n: 2, logprobs: true, top_logprobs: 2, max_completion_tokens: 5,
  });
  assert.deepEqual(reply.choices.map((choice) => choice.index), [0, 1]);
  for (const choice of reply.choices) {
    for (const token of choice.logprobs.content) assert.equal(token.top_logprobs.length, 2);
  }
});

test("an answer is parsed into the shape that was asked for", async () => {
  const reply = await client.chat.completions.parse({
    ...asked, response_format: { type: "json_schema", json_schema: { name: "place", schema: strict, strict: true } },
  });
  assert.deepEqual(Object.keys(JSON.parse(reply.choices[0].message.content)), ["city"]);
  const object = await client.chat.completions.create({
    ...asked, response_format: { type: "json_object" }, max_completion_tokens: 200, seed: 1,
  });
  if (object.choices[0].finish_reason === "stop") JSON.parse(object.choices[0].message.content);
});

for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
  test(`a function is called when that is ${tool_choice.type ? "named" : tool_choice}, whole and streamed`, async () => {
    const calling = { ...asked, tools: [chatTool], tool_choice, parallel_tool_calls: false };
    const reply = await client.chat.completions.create(calling);
    const [call] = reply.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
    const streamed = await client.chat.completions.stream(calling).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  });
}

test("the tool runner calls a function of ours and goes on with what it returned", async () => {
  const cities = [];
  const runner = client.chat.completions.runTools({
    ...asked,
    tool_choice: { type: "function", function: { name: "get_weather" } },
    tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: (given) => { cities.push(given.city); return "Sunny."; } } }],
  });
  await runner.done();
  assert.equal(cities.length, 1);
  assert.equal(typeof cities[0], "string");
});

test("a stream that is aborted ends", async () => {
  const stream = await client.chat.completions.create({ ...asked, max_completion_tokens: 4000, stream: true });
  for await (const _ of stream) break;
  assert.ok((await client.chat.completions.create({ ...asked, max_completion_tokens: 1 })).choices);
});

test("texts are continued, whole, streamed, echoed, and from tokens", async () => {
  const start = { model: MODEL, prompt: "The capital of France is", temperature: 0 };
  const whole = await client.completions.create({ ...start, logprobs: 2 });
  assert.match(whole.choices[0].text, /Paris/);
  assert.equal(whole.choices[0].logprobs.tokens.join(""), whole.choices[0].text);
  const chunks = await all(await client.completions.create({ ...start, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
  const { tokens } = await client.post(`${BASE}/tokenize`, { body: { model: MODEL, prompt: start.prompt } });
  const echoed = await client.completions.create({ ...start, prompt: tokens, echo: true });
  assert.equal(echoed.choices[0].text, start.prompt + whole.choices[0].text);
});

test("tokens are told and turned back into their text", async () => {
  const { tokens, count } = await client.post(`${BASE}/tokenize`, { body: { model: MODEL, prompt: "Hello there" } });
  assert.equal(tokens.length, count);
  const { prompt } = await client.post(`${BASE}/detokenize`, { body: { model: MODEL, tokens } });
  assert.equal(prompt, "Hello there");
});

test("embeddings are the same as numbers and as base64, which the client asks for unless told otherwise", async () => {
  const input = ["A kitten naps.", "The cat sleeps."];
  const coded = await client.embeddings.create({ model: EMBEDDER, input });
  const plain = await client.embeddings.create({ model: EMBEDDER, input, encoding_format: "float" });
  assert.equal(coded.data[1].embedding.length, 384);
  for (const [at, value] of coded.data[1].embedding.entries()) {
    assert.ok(Math.abs(value - plain.data[1].embedding[at]) < 1e-6);
  }
  const short = await client.embeddings.create({ model: EMBEDDER, input, dimensions: 64 });
  assert.equal(short.data[0].embedding.length, 64);
});

test("a response is written, goes on, is found, listed, counted and deleted", async () => {
  const first = await client.responses.create({ model: MODEL, input: "What is 2+2?", temperature: 0, max_output_tokens: 40 });
  assert.match(first.output_text, /4/);
  const second = await client.responses.create({
    model: MODEL, input: "And twice that?", previous_response_id: first.id, max_output_tokens: 5,
  });
  assert.ok(second.usage.input_tokens > first.usage.input_tokens);
  assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
  const items = await all(client.responses.inputItems.list(second.id, { order: "asc" }));
  assert.deepEqual(items.map((item) => item.role), ["user", "assistant", "user"]);
  const counted = await client.responses.inputTokens.count({ model: MODEL, input: "What is 2+2?" });
  assert.equal(counted.input_tokens, first.usage.input_tokens);
  await client.responses.delete(first.id);
  await refused(client.responses.retrieve(first.id), NotFoundError, null);
});

test("a response streams its events in order", async () => {
  const stream = await client.responses.create({ model: MODEL, input: "Hi", max_output_tokens: 8, stream: true });
  const events = await all(stream);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(events[0].type, "response.created");
  assert.match(events.at(-1).type, /^response\.(completed|incomplete)$/);
  const text = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
  assert.equal(events.at(-1).response.output[0].content[0].text, text.join(""));
});

test("a response calls a function and takes shape", async () => {
  const tool = { type: "function", ...weather };
  const called = await client.responses.stream({
    model: MODEL, input: "The weather in Rome?", tools: [tool], tool_choice: "required", parallel_tool_calls: false,
    temperature: 0, max_output_tokens: 60,
  }).finalResponse();
  assert.deepEqual(Object.keys(JSON.parse(called.output[0].arguments)), ["city"]);
  const shaped = await client.responses.parse({
    model: MODEL, input: "Rome", temperature: 0, max_output_tokens: 60,
    text: { format: { type: "json_schema", name: "place", schema: strict, strict: true } },
  });
  assert.deepEqual(Object.keys(JSON.parse(shaped.output_text)), ["city"]);
});

test("a background response is cancelled", async () => {
  const begun = await client.responses.create({ model: MODEL, input: "Go on.", max_output_tokens: 4000, background: true });
  assert.equal((await client.responses.cancel(begun.id)).status, "cancelled");
});

test("what cannot be honoured is the client's own error, and names the field", async () => {
  const create = (fields) => client.chat.completions.create({ ...asked, ...fields });
  await refused(create({ model: "gpt-4" }), NotFoundError, "model", "model_not_found");
  await refused(create({ temprature: 1 }), BadRequestError, "temprature", "unknown_parameter");
  await refused(create({ store: true }), BadRequestError, "store", "unsupported_value");
  await refused(create({ stream: true, max_completion_tokens: 9000 }), BadRequestError, "messages", "context_length_exceeded");
  await refused(client.completions.create({ model: MODEL, prompt: "a", suffix: "b" }), BadRequestError, "suffix");
  await refused(client.embeddings.create({ model: EMBEDDER, input: "" }), BadRequestError, "input");
  await refused(client.responses.create({ model: MODEL, input: "a", conversation: "c" }), BadRequestError, "conversation");
});
