// The balancer's figures, live, and the orders that an operator gives to nodes. Events carry counters since the
// balancer's start; rates and quantiles are made of their differences. An order is a PUT of /v1/nodes; what came of it
// is shown when an event says so, never before.

import { History, Latency, seconds } from "/figures.js";

const RETRY_MS = 1000; // until the stream is opened anew, where the browser has given it up
const SILENCE_MS = 6000; // a stream without events for so long hangs, and is opened anew
const CHECK_MS = 1000;
const PROBLEM_MS = 12000; // an order that was refused is told for so long

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const count = (number) => (number == null ? "–" : whole.format(number));
const perSecond = (rate) => (rate > 0 && rate < 10 ? tenths.format(rate) : whole.format(Math.round(rate)));

// The shop's rule (colour_of in sessiond/demo/nodes.py): the last digit of the name, else a sum of its letters.
function colourOf(name) {
  const last = name.at(-1);
  if (last >= "0" && last <= "9") return Number(last);
  return [...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 10;
}

// --- figures -------------------------------------------------------------------------------------------

const all = { rate: new History(), failing: new History(), latency: new Latency() };
const each = new Map(); // name of a node -> its own
let latest = []; // the nodes of the last event

function draw(svg, history, highest) {
  const rates = history.rates;
  const last = history.length - 1;
  svg.setAttribute("viewBox", `0 0 ${last} 100`);
  const x = (index) => last + 1 - rates.length + index;
  const y = (rate) => (highest ? 98 - (rate / highest) * 94 : 98).toFixed(1);
  const line = rates.length > 1 ? `M${rates.map((rate, index) => `${x(index)} ${y(rate)}`).join("L")}` : "";
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", line && `${line}V100H${x(0)}Z`);
}

function take({ nodes, totals, bounds_s: bounds }, now) {
  all.rate.take(totals.requests, now);
  all.failing.take(totals.failures, now);
  const sums = bounds.map(() => 0).concat(0);
  for (const node of nodes) {
    if (!each.has(node.name)) each.set(node.name, { rate: new History(), latency: new Latency() });
    const own = each.get(node.name);
    own.rate.take(node.requests, now);
    own.latency.take(node.latency, bounds, now);
    node.latency.forEach((number, index) => {
      sums[index] += number;
    });
  }
  all.latency.take(sums, bounds, now);
  for (const name of each.keys()) if (!nodes.some((node) => node.name === name)) each.delete(name);
}

// --- the page ------------------------------------------------------------------------------------------

function put(row, part, text) {
  const place = row.querySelector(`.${part}`);
  if (place.textContent !== text) place.textContent = text;
}

function fill(row, node, highest) {
  const { rate, latency } = each.get(node.name);
  row.className = `node hue-${colourOf(node.name)} is-${node.state}`;
  put(row, "name", node.name);
  put(row, "address", node.zone ? `${node.address}, ${node.zone}` : node.address);
  put(row, "state", node.state);
  put(row, "reason", node.reason ?? "");
  put(row, "rate", perSecond(rate.last));
  put(row, "requests", `${count(node.requests)} in all`);
  put(row, "p50", seconds(latency.quantile(0.5)));
  put(row, "p99", latency.isEmpty ? "" : `p99 ${seconds(latency.quantile(0.99))}`);
  put(row, "active", count(node.active));
  put(row, "idle", node.queue ? `${count(node.queue)} waiting` : `${count(node.idle)} idle`);
  put(row, "sessions", count(node.sessions));
  put(row, "failures", count(node.failures));
  put(row, "retries", node.retries ? `${count(node.retries)} retried` : "");
  put(row, "load-value", node.load == null ? "–" : hundredths.format(node.load));
  draw(row.querySelector(".spark"), rate, highest);
  const weight = row.querySelector(".weight");
  if (document.activeElement !== weight) weight.value = node.weight;
  for (const button of row.querySelectorAll("button")) button.hidden = button.dataset.order === node.order;
}

function rowOf({ name }) {
  const row = $("row").content.firstElementChild.cloneNode(true);
  row.dataset.name = name;
  const weight = row.querySelector(".weight");
  weight.setAttribute("aria-label", `Weight of ${name}`);
  weight.addEventListener("change", () => weigh(name, weight));
  for (const button of row.querySelectorAll("button")) {
    button.setAttribute("aria-label", `${button.textContent} ${name}`);
    button.addEventListener("click", () => order(name, button));
  }
  return row;
}

function show(event) {
  const { nodes, totals } = event;
  latest = nodes;
  take(event, performance.now());

  const up = nodes.filter(({ state }) => state === "up").length;
  $("rate").textContent = perSecond(all.rate.last);
  draw($("rate-spark"), all.rate, all.rate.highest);
  $("requests").textContent = count(totals.requests);
  $("up").textContent = `${up} of ${nodes.length}`;
  $("up").classList.toggle("bad", nodes.some(({ state }) => state === "down"));
  $("p50").textContent = seconds(all.latency.quantile(0.5));
  $("p99").textContent = seconds(all.latency.quantile(0.99));
  $("active").textContent = count(totals.active_connections);
  $("tunnels").textContent = totals.tunnels ? `${count(totals.tunnels)} tunnels` : "";
  $("retries").textContent = count(totals.retries);
  $("refusals").textContent = totals.retries_refused ? `${count(totals.retries_refused)} over budget` : "";
  $("failures").textContent = count(totals.failures);
  $("failures").classList.toggle("bad", all.failing.last > 0);
  $("failing").textContent = all.failing.last > 0 ? `${perSecond(all.failing.last)}/s now` : "";

  const rows = new Map([...$("nodes").children].map((row) => [row.dataset.name, row]));
  if (nodes.map(({ name }) => name).join() !== [...rows.keys()].join()) {
    // Only when the list changed: a row that is put in anew loses the focus.
    $("nodes").replaceChildren(...nodes.map((node) => rows.get(node.name) ?? rowOf(node)));
  }
  const highest = Math.max(...[...each.values()].map(({ rate }) => rate.highest), 0); // one scale for all nodes
  nodes.forEach((node, index) => fill($("nodes").children[index], node, highest));
  document.querySelector("table").classList.toggle("without-load", nodes.every(({ load }) => load == null));
  $("nothing").hidden = nodes.length > 0;
  $("hint").hidden = nodes.length === 0;
  $("figures").hidden = false;
  document.title = `${up} of ${nodes.length} up, ${perSecond(all.rate.last)}/s`;
}

// --- orders --------------------------------------------------------------------------------------------

let problemTimer = 0;

function complain(text) {
  clearTimeout(problemTimer);
  $("problem").textContent = text;
  $("problem").hidden = !text;
  if (text) problemTimer = setTimeout(() => complain(""), PROBLEM_MS);
}

async function tell(name, change) {
  try {
    const answer = await fetch(`/v1/nodes/${encodeURIComponent(name)}`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(change),
    });
    if (answer.ok) return complain("");
    const { message } = await answer.json().catch(() => ({ message: `answer ${answer.status}` }));
    complain(`${name} stays as it is: ${message}.`);
  } catch {
    complain(`Nobody knows whether ${name} was changed: the balancer did not answer. The table shows what it is now.`);
  }
}

async function order(name, button) {
  const state = button.dataset.order;
  if (state === "maintenance" && !latest.some((node) => node.name !== name && node.state === "up")) {
    if (!(await confirmed(`Disable ${name}?`))) return;
  }
  button.disabled = true;
  await tell(name, { state });
  button.disabled = false;
}

function confirmed(question) {
  $("sure-title").textContent = question;
  $("sure").returnValue = "";
  $("sure").showModal();
  return new Promise((resolve) => {
    $("sure").addEventListener("close", () => resolve($("sure").returnValue === "yes"), { once: true });
  });
}

async function weigh(name, input) {
  if (!input.reportValidity()) return;
  await tell(name, { weight: Number(input.value) });
}

// --- the stream ----------------------------------------------------------------------------------------

let stream = null;
let heardAt = null; // when the last event came; null before the first
let quietSince = 0; // when the stream was opened or last heard, in milliseconds of the clock

function status(state, text) {
  $("live").className = `live ${state}`;
  if ($("live").textContent !== text) $("live").textContent = text;
  document.body.classList.toggle("stale", state === "lost");
}

function lost() {
  const since = heardAt === null ? "" : `, figures of ${new Date(heardAt).toLocaleTimeString()}`;
  status("lost", `the balancer does not answer${since}; trying again …`);
  document.title = "Balancer: no answer";
}

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden) return; // a page in the background costs the balancer nothing
  const mine = new EventSource("/v1/events");
  quietSince = Date.now();
  mine.onmessage = ({ data }) => {
    heardAt = quietSince = Date.now();
    status("", "live");
    show(JSON.parse(data));
  };
  mine.onerror = () => {
    lost();
    // After an answer other than 200 the browser does not try again by itself.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => mine === stream && listen(), RETRY_MS);
  };
  stream = mine;
}

setInterval(() => {
  if (stream && Date.now() - quietSince > SILENCE_MS) {
    lost();
    listen();
  }
}, CHECK_MS);

document.addEventListener("visibilitychange", listen);
listen();
