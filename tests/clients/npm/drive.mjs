// The openai package of npm.
import OpenAI from "openai";

const MODEL = "talks", TEXT = "Hello from muxjax.", SUN = "It is sunny in Rome.", ASK = "How is the weather in Rome?";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: ASK }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };

function same(got, expected) {
  if (got !== expected) throw new Error(`got ${JSON.stringify(got)} in place of ${JSON.stringify(expected)}`);
}

const features = {
  async chat() {
    same((await client.chat.completions.create({ model: MODEL, messages })).choices[0].message.content, TEXT);
  },
  async stream() {
    let text = "";
    for await (const event of await client.chat.completions.create({ model: MODEL, messages, stream: true })) {
      text += event.choices[0]?.delta.content ?? "";
    }
    same(text, TEXT);
  },
  async tools() {
    const weather = { name: "weather", description: "of a city", parse: JSON.parse, parameters, function: ({ city }) => (same(city, "Rome"), "sun") };
    const runner = client.chat.completions.runTools({ model: MODEL, messages, tools: [{ type: "function", function: weather }] });
    same(await runner.finalContent(), SUN);
  },
  async form() {
    const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"] };
    const response_format = { type: "json_schema", json_schema: { name: "person", schema, strict: true } };
    const answer = await client.chat.completions.create({ model: MODEL, messages, response_format });
    same(JSON.parse(answer.choices[0].message.content).age, 36);
  },
  async responses() {
    const stream = client.responses.stream({ model: MODEL, input: ASK });
    same((await stream.finalResponse()).output_text, TEXT);
  },
  async embeddings() {
    same((await client.embeddings.create({ model: MODEL, input: ["a", "b"] })).data.length, 2);
  },
};

const found = {};
for (const [name, does] of Object.entries(features)) {
  try {
    await does();
    found[name] = "";
  } catch (error) {
    console.error(error);
    found[name] = `${error.name}: ${error.message}`.slice(0, 500);
  }
}
console.log(JSON.stringify(found));
