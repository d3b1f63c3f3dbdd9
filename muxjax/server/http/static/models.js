// A card for each model: load, speed, and latencies against their targets.

import { colour, colourOf, count, element, percent, seconds, sheet, term, variable } from "./draw.js";

const REMEMBERED = 120;

export class Models {
  /** `change` is asked for a change of a model: its method, path and what it does. */
  constructor(box, change) {
    Object.assign(this, { box, change, cards: new Map() });
  }

  /** Takes over a second's numbers; `models` are those of server_info, in the order of their colours. */
  show(live, models) {
    models.forEach((model, index) => {
      if (!this.cards.has(model.name)) this.cards.set(model.name, new Card(model.name, this.change));
      const card = this.cards.get(model.name);
      if (this.box.children[index] !== card.root) this.box.insertBefore(card.root, this.box.children[index] ?? null);
      if (live.models[model.name]) card.show(live.models[model.name], live.now_s, model, index, live.total_blocks);
    });
    while (this.box.children.length > models.length) this.box.lastChild.remove();
  }

  /** Tokens generated a second, by all models. */
  get speed() {
    return [...this.cards.values()].reduce((sum, card) => sum + (card.speeds.at(-1)?.decode ?? 0), 0);
  }

  get promptSpeed() {
    return [...this.cards.values()].reduce((sum, card) => sum + (card.speeds.at(-1)?.prefill ?? 0), 0);
  }
}

class Card {
  constructor(name, change) {
    const path = `/${encodeURIComponent(name)}`;
    const button = (text, method, more) => element("button", { type: "button", onclick: () => change(method, path + more, `${text} ${name}`) }, text);
    this.sleep = button("Sleep", "POST", "/sleep");
    this.wake = button("Wake", "POST", "/wake");
    this.unload = button("Unload", "DELETE", "");
    this.speeds = [];
    this.state = element("p", { className: "note" });
    this.about = element("p", { className: "note" });
    this.spark = element("canvas", { role: "img" });
    this.facts = element("dl");
    this.latencies = element("tbody");
    const heads = element("tr", {}, element("th"), element("th", {}, term("p50")), element("th", {}, term("p99")), element("th", {}, "target"));
    const latencies = element("table", {}, element("thead", {}, heads), this.latencies);
    this.meter = element("meter", { min: 0 });
    const buttons = element("p", { className: "buttons" }, this.sleep, this.wake, this.unload);
    this.quota = element("p", { className: "note" });
    const head = element("header", {}, element("h3", {}, name), this.state);
    this.root = element("article", { className: "model" }, head, this.about, this.spark, this.facts, latencies, this.quota, this.meter, buttons);
    this.root.dataset.model = name;
  }

  show(load, now, model, index, totalBlocks) {
    this.remember(load, now);
    this.root.style.setProperty("--of", variable(index));
    this.state.textContent = load.state + compiling(load.programs);
    this.about.textContent = `${count(model.parameters)} parameters, up to ${count(model.max_model_len)} tokens`;
    const { decode = 0, prefill = 0 } = this.speeds.at(-1) ?? {};
    this.facts.replaceChildren(
      ...fact("running, waiting", `${count(load.running)}, ${count(load.waiting)}`),
      ...fact("tokens/s out, in", `${count(decode)}, ${count(prefill)}`),
      ...fact("prompts cached", load.prefix_queries ? percent(load.prefix_hits / load.prefix_queries) : "–"),
      ...(load.draft_tokens ? fact("drafts accepted", percent(load.accepted_tokens / load.draft_tokens)) : []),
    );
    this.latencies.replaceChildren(
      latency("first token", load.ttft_s, model.targets?.ttft_s),
      latency("between tokens", load.tpot_s, model.targets?.tpot_s),
    );
    if (!this.quota.firstChild) this.quota.append(term("quota"), " used: ", element("span"));
    this.quota.lastChild.textContent = `${count(load.held_blocks)} of ${count(load.quota_blocks)}`;
    this.sleep.hidden = load.state !== "ready";
    this.wake.hidden = load.state !== "asleep";
    this.meter.max = load.quota_blocks || 1;
    this.meter.value = load.held_blocks;
    this.meter.ariaLabel = `head blocks of ${model.name}, of its quota, which is ${percent(load.quota_blocks / totalBlocks)} of the cache`;
    this.draw(index);
    this.spark.ariaLabel = `${count(decode)} tokens a second; at most ${count(this.most)} in the last two minutes`;
  }

  remember({ decode_tokens, prefill_tokens }, now) {
    const before = this.before;
    this.before = { decode_tokens, prefill_tokens, now };
    if (!before || now <= before.now) return;
    const a_second = (name) => Math.max(0, this.before[name] - before[name]) / (now - before.now);
    this.speeds.push({ decode: a_second("decode_tokens"), prefill: a_second("prefill_tokens") });
    if (this.speeds.length > REMEMBERED) this.speeds.shift();
  }

  get most() {
    return Math.max(1, ...this.speeds.map(({ decode }) => decode));
  }

  draw(index) {
    const height = 44, { ink, width } = sheet(this.spark, height), most = this.most, step = width / (REMEMBERED - 1);
    const x = (i) => width - (this.speeds.length - 1 - i) * step, y = ({ decode }) => height - 2 - (height - 6) * decode / most;
    ink.strokeStyle = colour("line");
    ink.beginPath();
    ink.moveTo(0, height - 0.5);
    ink.lineTo(width, height - 0.5);
    ink.stroke();
    ink.fillStyle = colour("soft");
    ink.font = "11px system-ui, sans-serif";
    ink.textAlign = "left";
    ink.fillText(`${count(most)} tokens/s`, 2, 10);
    ink.fillText("2 min ago", 2, height - 4);
    ink.textAlign = "right";
    ink.fillText("now", width - 2, height - 4);
    if (!this.speeds.length) return;
    ink.strokeStyle = ink.fillStyle = colourOf(index);
    ink.lineWidth = 1.75;
    ink.lineJoin = "round";
    ink.beginPath();
    this.speeds.forEach((speed, i) => ink.lineTo(x(i), y(speed)));
    ink.stroke();
    ink.lineTo(x(this.speeds.length - 1), height);
    ink.lineTo(x(0), height);
    ink.globalAlpha = 0.16;
    ink.fill();
    ink.globalAlpha = 1;
  }
}

/** Sizes of steps that are still compiled, while larger ones stand in for them. */
function compiling(programs) {
  const left = programs ? programs.all - programs.ready - programs.failed.length : 0;
  const failed = programs?.failed.length ? `, ${programs.failed.length} cannot be compiled` : "";
  return (left ? `, compiling: ${programs.ready} of ${programs.all} step sizes` : "") + failed;
}

const fact = (name, value) => [element("dt", {}, name), element("dd", {}, value)];

/** `both` is the median and the 99th percentile. A target is met if 99 of 100 requests are within it. */
function latency(name, both, target) {
  const late = both && target && both[1] > target, met = both && target && !late;
  const cell = (value, className = "") => element("td", { className }, value);
  const told = target ? `${late ? ">" : "≤"} ${seconds(target)}` : "–";
  return element("tr", {}, element("th", { scope: "row" }, name), cell(seconds(both?.[0])), cell(seconds(both?.[1])), cell(told, late ? "late" : met ? "intime" : ""));
}
