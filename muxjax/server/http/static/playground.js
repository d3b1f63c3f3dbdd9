// One conversation with two models at once; each answer as it comes, and before it what was said so far.

import { element, seconds, variable } from "./draw.js";
import { getKey, stream } from "./server.js";

const SHORTEST_S = 0.05; // below it a speed says more about the network than about the model

export class Playground {
  constructor(find) {
    Object.assign(this, { find, models: [] });
    this.sides = ["left", "right"].map((name) => ({
      select: find(`${name}-model`), output: find(name), note: find(`${name}-note`), history: find(`${name}-history`), said: [],
    }));
    find("ask").addEventListener("submit", (event) => { event.preventDefault(); this.ask(); });
    find("stop").addEventListener("click", () => this.leaving?.abort());
    find("anew").addEventListener("click", () => this.forget());
    find("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
    });
    find("copy").addEventListener("click", () => this.copy());
    for (const name of ["prompt", "temperature", "max-tokens"]) find(name).addEventListener("input", () => this.showCommand());
    for (const side of this.sides) side.select.addEventListener("change", () => { this.tint(); this.showCommand(); });
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
    this.showCommand();
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

  /** Begins anew: what was said is no part of what is asked next. */
  forget() {
    this.leaving?.abort();
    for (const side of this.sides) {
      Object.assign(side, { said: [], turn: null });
      for (const box of [side.history, side.output, side.note]) box.replaceChildren();
    }
    this.showCommand();
    this.find("prompt").focus();
  }

  async answer(side, signal) {
    const { select, output, note } = side, prompt = this.find("prompt").value;
    const [path, body] = this.request(select.value, side.said);
    this.keep(side);
    const turn = side.turn = {};
    side.asked = prompt;
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
      for await (const event of stream(path, { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } }, signal)) {
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
    if (output.textContent && side.turn === turn) side.said = [...side.said, { role: "user", content: prompt }, { role: "assistant", content: output.textContent }];
    if (signal.aborted && this.leaving?.signal === signal) say("stopped");
    this.showCommand();
  }

  /** The last question and answer go up to what was said before them. */
  keep({ history, output, asked }) {
    if (!output.textContent) return;
    history.append(element("li", { className: "asked" }, asked), element("li", {}, output.textContent));
  }

  /** Path and body of what is asked: a chat, with all that was said, where the model has a template. */
  request(name, said) {
    const prompt = this.find("prompt").value, chat = this.models.find((model) => model.name === name)?.chat;
    const common = { model: name, temperature: Number(this.find("temperature").value), max_tokens: Number(this.find("max-tokens").value) };
    return chat
      ? ["v1/chat/completions", { ...common, messages: [...said, { role: "user", content: prompt }] }]
      : ["v1/completions", { ...common, prompt }];
  }

  /** What one would type to ask the first model the same; the key is left to whoever has it. */
  showCommand() {
    const [side] = this.sides, [path, body] = this.request(side.select.value, side.said);
    const key = getKey() ? ` -H "Authorization: Bearer $OPENAI_API_KEY"` : "", quoted = JSON.stringify(body).replaceAll("'", String.raw`'\''`);
    this.find("curl").textContent = `curl ${new URL(path, location.href)} -H 'Content-Type: application/json'${key} -d '${quoted}'`;
  }

  async copy() {
    const button = this.find("copy");
    try {
      await navigator.clipboard.writeText(this.find("curl").textContent);
      button.textContent = "Copied";
    } catch { // a page that is not served safely may not
      getSelection().selectAllChildren(this.find("curl"));
      button.textContent = "Selected: copy it";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }
}
