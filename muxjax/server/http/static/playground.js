// One prompt to two models at once; each answer as it comes.

import { seconds, variable } from "./draw.js";
import { stream } from "./server.js";

const SHORTEST_S = 0.05; // below it a speed says more about the network than about the model

export class Playground {
  constructor(find) {
    Object.assign(this, { find, models: [] });
    this.sides = ["left", "right"].map((name) => ({ select: find(`${name}-model`), output: find(name), note: find(`${name}-note`) }));
    find("ask").addEventListener("submit", (event) => { event.preventDefault(); this.ask(); });
    find("stop").addEventListener("click", () => this.leaving?.abort());
    find("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
    });
    for (const side of this.sides) side.select.addEventListener("change", () => this.tint());
  }

  /** Those one may choose from; the two chosen stay chosen. */
  offer(models) {
    if (models.map(({ name }) => name).join() === this.models.map(({ name }) => name).join()) return;
    this.models = models;
    this.sides.forEach(({ select }, i) => {
      const before = select.value;
      select.replaceChildren(...models.map(({ name }) => new Option(name, name)));
      select.value = models.some(({ name }) => name === before) ? before : models[Math.min(i, models.length - 1)]?.name;
    });
    this.tint();
  }

  tint() {
    for (const { select } of this.sides) {
      select.closest("article").style.setProperty("--of", variable(this.models.findIndex(({ name }) => name === select.value)));
    }
  }

  async ask() {
    this.leaving?.abort();
    const leaving = this.leaving = new AbortController();
    this.find("stop").disabled = false;
    await Promise.all(this.sides.map((side) => this.answer(side, leaving.signal)));
    if (this.leaving === leaving) this.find("stop").disabled = true;
  }

  async answer({ select, output, note }, signal) {
    output.textContent = note.textContent = "";
    output.ariaBusy = "true"; // read out once it is whole
    const begin = performance.now(), since = () => (performance.now() - begin) / 1e3;
    let first = null, usage = null;
    const say = (ending) => {
      const tokens = usage?.completion_tokens, streamed = since() - first;
      const speed = tokens > 1 && streamed > SHORTEST_S ? `, ${Math.round((tokens - 1) / streamed)} tokens/s` : "";
      note.textContent = first === null ? ending : `first token after ${seconds(first)}${speed}${ending && `; ${ending}`}`;
    };
    try {
      for await (const event of stream(...this.request(select.value), signal)) {
        if (signal.aborted) break;
        usage = event.usage ?? usage;
        const choice = event.choices[0];
        if (choice) first ??= since();
        output.append(choice?.delta?.content ?? choice?.text ?? "");
        say("");
      }
      say(usage ? `${usage.completion_tokens} tokens in ${seconds(since())}` : "");
    } catch (error) {
      if (!signal.aborted) say(error.message);
    }
    output.ariaBusy = "false";
    if (signal.aborted && this.leaving?.signal === signal) say("stopped");
  }

  /** Path and body of what is asked: a chat where the model has a template. */
  request(name) {
    const prompt = this.find("prompt").value, chat = this.models.find((model) => model.name === name)?.chat;
    const common = {
      model: name, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true },
      temperature: Number(this.find("temperature").value), max_tokens: Number(this.find("max-tokens").value),
    };
    return chat
      ? ["v1/chat/completions", { ...common, messages: [{ role: "user", content: prompt }] }]
      : ["v1/completions", { ...common, prompt }];
  }
}
